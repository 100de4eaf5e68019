//! What `verify` says.

use std::io::{self, Write};

use serde::Serialize;
use zastava_crds::{digest::ImageDigest, policy::Mode};
use zastava_verify::verdict;

use crate::{ending::Ending, output::plain};

/// All results, in the order of images and policies, and what they come to.
#[derive(Debug, Serialize)]
pub struct Report {
    results: Vec<Row>,
    verdict: Word,
}

/// One image under one policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    image: String,
    policy: String,
    mode: Mode,
    verdict: Word,
    /// In words.
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    /// The digest that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<ImageDigest>,
    /// What satisfied each requirement.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// When it stops to hold by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The requirement that is not met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
    /// The class of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The class of an unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

/// What is said about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
pub enum Word {
    /// All that is asked was shown.
    Satisfied,
    /// An exception of the policy covers it.
    Excepted,
    /// The policy does not speak for it.
    NotSelected,
    /// The policy decides nothing, such as while it is suspended.
    NotInForce,
    /// It was shown that the image does not satisfy.
    Refused,
    /// Nothing can be said.
    Unknown,
}

/// What satisfied one requirement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    requirement: String,
    signed_by: Vec<String>,
    subject: ImageDigest,
}

impl From<&verdict::Evidence> for Evidence {
    fn from(evidence: &verdict::Evidence) -> Self {
        Self {
            requirement: evidence.requirement.clone(),
            signed_by: evidence.signed_by.clone(),
            subject: evidence.subject.clone(),
        }
    }
}

impl Row {
    /// About an image under a policy, nothing yet.
    pub fn of(image: &str, policy: &str, mode: Mode) -> Self {
        Self {
            image: image.to_owned(),
            policy: policy.to_owned(),
            mode,
            verdict: Word::Unknown,
            message: String::new(),
            digest: None,
            evidence: Vec::new(),
            expires_at: None,
            requirement: None,
            reason: None,
            cause: None,
            next_step: None,
        }
    }

    /// With its verdict.
    pub fn says(self, verdict: Word, message: &str) -> Self {
        Self { verdict, message: plain(message), ..self }
    }

    fn details(&self, out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(digest) = &self.digest {
            writeln!(out, "  {} {}", kind(digest), digest.digest)?;
        }
        for Evidence { requirement, signed_by, subject } in &self.evidence {
            // A base image is shown by the layers of the image, which nobody signs.
            let how =
                if signed_by.is_empty() { "shown".to_owned() } else { format!("signed by {}", signed_by.join(", ")) };
            writeln!(out, "  {requirement}: {}", plain(&how))?;
            if self.digest.as_ref() != Some(subject) {
                writeln!(out, "    on {} {}", kind(subject), subject.digest)?;
            }
        }
        if let Some(at) = &self.expires_at {
            writeln!(out, "  until {at}")?;
        }
        match &self.requirement {
            Some(requirement) => writeln!(out, "  asked: {requirement}; found: {}", self.message)?,
            None if !self.message.is_empty() => writeln!(out, "  {}", self.message)?,
            None => {}
        }
        if let Some(next) = &self.next_step {
            writeln!(out, "  next: {}", plain(next))?;
        }
        Ok(())
    }
}

fn kind(digest: &ImageDigest) -> String {
    // As JSON says it; a digest that nobody looked behind is called by that name alone.
    let kind = serde_json::to_value(digest.kind).unwrap_or_default();
    match kind.as_str() {
        Some("unresolved") | None => "digest".to_owned(),
        Some(kind) => kind.to_owned(),
    }
}

impl Report {
    /// Of all results.
    pub fn of(results: Vec<Row>) -> Self {
        let has = |word: Word| results.iter().any(|result| result.verdict == word);
        // Under a policy that speaks for it, or an image passes because a glob has a slip.
        let spoken_for = |image: &str| {
            let speaks = |result: &&Row| matches!(result.verdict, Word::Satisfied | Word::Excepted);
            results.iter().filter(speaks).any(|result| result.image == image)
        };
        let verdict = if has(Word::Refused) {
            Word::Refused
        } else if has(Word::Unknown) || !results.iter().all(|result| spoken_for(&result.image)) {
            Word::Unknown
        } else {
            Word::Satisfied
        };
        Self { results, verdict }
    }

    /// For people.
    pub fn table(&self, out: &mut Vec<u8>) -> io::Result<()> {
        for result in &self.results {
            let word: &'static str = result.verdict.into();
            writeln!(out, "{word}: {} under {} ({})", plain(&result.image), result.policy, result.mode)?;
            result.details(out)?;
        }
        let mut images: Vec<&str> = self.results.iter().map(|result| result.image.as_str()).collect();
        images.dedup();
        for image in images {
            let mut of_image = self.results.iter().filter(|result| result.image == image);
            if of_image.all(|result| matches!(result.verdict, Word::NotSelected | Word::NotInForce)) {
                writeln!(out, "Unknown: no policy speaks for {}", plain(image))?;
                writeln!(out, "  next: check spec.match.images, or name the policy that is meant")?;
            }
        }
        Ok(())
    }

    /// How it ends.
    pub fn ending(&self) -> Ending {
        match self.verdict {
            Word::Satisfied => Ending::Satisfied,
            Word::Refused => Ending::Refused,
            _ => Ending::Unknown,
        }
    }
}
