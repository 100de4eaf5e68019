//! What can be said of an image from its written form alone. Globs match the canonical `host/repository`; the written
//! form is the same only where it is plain: lower case, with its registry's host, which is not Docker Hub.

use super::expression::{text, texts};

/// A host with a dot, a port or the name localhost, a repository, tag and SHA-256 digest: as
/// <https://github.com/distribution/reference/blob/main/regexp.go> has them, but for capitals.
const PLAIN: &str = "^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+(?::[0-9]+)?\
    |[a-z0-9](?:[a-z0-9-]*[a-z0-9])?:[0-9]+|localhost)\
    (?:/[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*)+(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[a-f0-9]{64})?$";
/// Characters of a reference that is looked at, at most.
const MAX_REFERENCE: usize = 255;
/// Characters of globs that go into an expression at most: it is parsed for every version of a configuration, and its
/// length is bounded.
const MAX_GLOBS: usize = 8 * 1024;
/// Beginnings of globs that each reference is held against at most, since each adds to the expression's cost.
const MAX_BEGINNINGS: usize = 128;
/// What a glob may hold beside itself.
const SPECIAL: [char; 8] = ['*', '?', '[', ']', '{', '}', '!', '\\'];

/// Whether `r` is its own canonical name, but for tag and digest.
fn is_plain() -> String {
    format!(
        "size(r) <= {MAX_REFERENCE} && !r.contains(':443/') && !r.contains('docker.') && r.matches({})",
        text(PLAIN)
    )
}

/// Whether `r` may be selected by one of `globs`. False is a proof that it is not; none: nothing can be proven by what
/// the globs begin with.
pub(super) fn may_match<'a>(globs: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut beginnings: Vec<&str> =
        globs.into_iter().map(|glob| glob.split(SPECIAL).next().unwrap_or_default()).collect();
    beginnings.sort_unstable();
    beginnings.dedup();
    if beginnings.is_empty()
        || beginnings.len() > MAX_BEGINNINGS
        || beginnings.iter().any(|b| b.is_empty())
        || beginnings.iter().map(|b| b.len() + 4).sum::<usize>() > MAX_GLOBS
    {
        return None;
    }
    Some(format!("({}.exists(b, r.startsWith(b)) || !({}))", texts(beginnings), is_plain()))
}

/// Whether `r` is selected by one of `globs`. True is a proof that it is; none: nothing can be proven.
pub(super) fn must_match<'a>(globs: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut any = Vec::new();
    let mut size = 0;
    for glob in globs {
        if glob == "**" {
            return Some("true".to_owned());
        }
        let (name, rest) = glob.find(SPECIAL).map_or((glob, ""), |at| glob.split_at(at));
        let selected = match rest {
            "" => format!("(r == {0} || r.startsWith({1}) || r.startsWith({2}))", text(name), tagged(name), at(name)),
            "**" if name.ends_with('/') => format!("r.startsWith({})", text(name)),
            "*" if name.ends_with('/') => {
                format!("(r.startsWith({}) && r.split('/').size() == {})", text(name), name.split('/').count())
            }
            _ => continue,
        };
        size += selected.len();
        any.push(selected);
    }
    if any.is_empty() || size > MAX_GLOBS {
        return None;
    }
    Some(format!("(({}) && {})", any.join(" || "), is_plain()))
}

fn tagged(name: &str) -> String {
    text(&format!("{name}:"))
}

fn at(name: &str) -> String {
    text(&format!("{name}@"))
}

/// Whether `r` has a digest that can be verified.
pub(super) fn is_pinned() -> String {
    format!("size(r) <= 1024 && r.matches({})", text("@sha256:[a-f0-9]{64}$"))
}
