//! Texts for people, within the bounds of the API: a message of at most ten lines, warnings that fit their header.

use zastava_core::backend::terms::Note;

use super::judgement::Problem;
use crate::{policies::policy::Policy, review::images::ImageUse};

/// Characters of one line of a message at most.
pub const MAX_LINE: usize = 400;
/// Images that a message tells of, three lines each.
const MAX_TOLD: usize = 3;
/// Characters of one warning at most: the API server cuts longer ones.
const MAX_WARNING: usize = 256;
/// Warnings of one answer at most.
pub const MAX_WARNINGS: usize = 8;

/// One image that does not pass.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The image.
    pub image: &'a ImageUse,
    /// Why.
    pub problem: &'a Problem,
    /// Nothing can be said about it, rather than that it fails.
    pub unknown: bool,
}

/// The message of a refusal: at most ten lines.
pub fn refusal(policy: &Policy, told: &[Told<'_>], of: usize) -> String {
    let shown = if told.len() > MAX_TOLD { MAX_TOLD - 1 } else { told.len() };
    let mut lines = vec![format!("policy {} refuses {} of {of} images:", policy.reference.name, told.len())];
    for Told { image, problem, .. } in &told[..shown] {
        lines.push(format!("{} {}: {}", image.field, image.container, named(image, problem)));
        lines.push(format!("  asked: {}; found: {}", problem.requirement, problem.found));
        lines.push(format!("  next: {}", problem.next_step));
    }
    if told.len() > shown {
        lines.push(format!("and {} more", told.len() - shown));
    }
    let lines: Vec<_> = lines.iter().map(|line| bounded(line, MAX_LINE)).collect();
    lines.join("\n")
}

/// Warnings for what is let in, one an image.
pub fn warnings(policy: &Policy, told: &[Told<'_>]) -> Vec<String> {
    let shown = if told.len() > MAX_WARNINGS { MAX_WARNINGS - 1 } else { told.len() };
    let mut warnings: Vec<_> = told[..shown]
        .iter()
        .map(|Told { image, problem, unknown }| {
            let tone = if *unknown { "could not be verified" } else { "would be refused under Enforce" };
            let Problem { requirement, found, next_step, .. } = problem;
            let of = &policy.reference.name;
            let line = format!(
                "policy {of}: {} {} {tone}: {requirement}: {found}; {}; {next_step}",
                image.field,
                image.container,
                named(image, problem)
            );
            bounded(&line, MAX_WARNING)
        })
        .collect();
    if told.len() > shown {
        warnings.push(format!("policy {}: and {} more images", policy.reference.name, told.len() - shown));
    }
    warnings
}

/// One line about an image, for audit annotations.
pub fn line(told: Told<'_>) -> String {
    let Told { image, problem, .. } = told;
    let line = format!(
        "{} {}: {}: {}: {}",
        image.field,
        image.container,
        named(image, problem),
        problem.requirement,
        problem.found
    );
    bounded(&line, MAX_LINE)
}

/// One line about the backend's word on an image that passes, for audit annotations.
pub fn note(image: &ImageUse, note: &Note) -> String {
    let kind: &'static str = note.kind.into();
    bounded(&format!("{} {}: {kind}: {}", image.field, image.container, note.text), MAX_LINE)
}

/// The same as a warning.
pub fn noted(policy: &Policy, image: &ImageUse, note: &Note) -> String {
    let of = &policy.reference.name;
    bounded(&format!("policy {of}: {} {}: {}", image.field, image.container, note.text), MAX_WARNING)
}

/// The reference as written, with the digest it stands for where it does not say so itself.
fn named(image: &ImageUse, problem: &Problem) -> String {
    match &problem.digest {
        Some(digest) if !image.reference.contains('@') => format!("{} ({})", image.reference, digest.digest),
        _ => image.reference.clone(),
    }
}

/// One printable line: what a registry or a user wrote must not forge another.
pub fn bounded(text: &str, max: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = clean.clone().take(max).collect();
    if clean.count() > max {
        line = line.chars().take(max.saturating_sub(1)).chain(['…']).collect();
    }
    line
}
