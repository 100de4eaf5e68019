//! Writes into a case what was decided, and leaves the rest of the file as people wrote it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{app::Decided, case::Case, expect::Expect};
use crate::documents::{self, DocumentError};

/// A case that can't be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The file can't be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The file can't be written.
    #[error("{}: {source}", file.display())]
    Unwritable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `expect` is not a block of its own.
    #[error("{}: expect is no block of its own lines: write it as one, without comments in it, and update again", .0.display())]
    NoBlock(PathBuf),
}

impl UpdateError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Document(error) => error.category(),
            Self::Unwritable { .. } => "case_unwritable",
            Self::NoBlock(_) => "case_block",
        }
    }
}

/// A case with another `expect`, not yet written.
#[derive(Debug)]
pub struct Update {
    file: PathBuf,
    text: String,
}

impl Update {
    /// What a case's file has to say; `None` if it says so already.
    pub fn of(case: &Case, decided: &Decided) -> Result<Option<Self>, UpdateError> {
        let expect = expectation(case, decided);
        if expect == case.expect {
            return Ok(None);
        }
        let file = case.file.clone();
        let block = serde_saphyr::to_string(&serde_json::json!({"expect": expect})).map_err(|error| {
            UpdateError::Unwritable { file: file.clone(), source: io::Error::other(error.to_string()) }
        })?;
        let before = documents::text(&file)?;
        match replaced(&before, &block).filter(|after| is_only_of_expect(&file, &before, after, &expect)) {
            Some(text) => Ok(Some(Self { file, text })),
            None => Err(UpdateError::NoBlock(file)),
        }
    }

    /// Writes it.
    pub fn write(&self) -> Result<(), UpdateError> {
        let unwritable = |source| UpdateError::Unwritable { file: self.file.clone(), source };
        fs::write(&self.file, &self.text).map_err(unwritable)
    }
}

/// Whether a file says what it said, but for `expect`. Lines can look like a block and be none.
fn is_only_of_expect(file: &Path, before: &str, after: &str, expect: &Expect) -> bool {
    let read = |text: &str| {
        let documents = documents::parse(file, text).unwrap_or_default();
        <[_; 1]>::try_from(documents).ok().map(|[document]| document.value)
    };
    let (Some(mut wanted), Some(after)) = (read(before), read(after)) else { return false };
    let (Some(fields), Ok(expect)) = (wanted.as_object_mut(), serde_json::to_value(expect)) else { return false };
    fields.insert("expect".to_owned(), expect);
    wanted == after
}

/// What a case would have to expect. Of what it says of messages, policies and pins, that which holds stays.
fn expectation(case: &Case, decided: &Decided) -> Expect {
    let lines: Vec<_> = decided.told().collect();
    let mut messages = case.expect.messages.clone();
    messages.retain(|part| lines.iter().any(|line| line.contains(part.as_str())));
    if messages.is_empty() {
        let telling = lines.iter().filter(|line| line.contains("found: ") || line.starts_with("policy "));
        messages = telling.map(|line| line.trim().to_owned()).collect();
    }
    let mut policies = case.expect.policies.clone();
    for (policy, outcome) in &mut policies {
        if let Some(decision) = decided.policies.iter().find(|decision| decision.policy == *policy) {
            outcome.clone_from(&decision.outcome);
        }
    }
    policies.retain(|policy, _| decided.policies.iter().any(|decision| decision.policy == *policy));
    let pinned = case.expect.pinned.as_ref().map(|_| decided.pinned.clone());
    Expect { decision: decided.answer, messages, policies, pinned }
}

/// A file with another block under `expect:`; `None` if it has none.
fn replaced(text: &str, block: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().collect();
    let from = lines.iter().position(|line| line.trim_end() == "expect:")?;
    let is_of_block = |line: &&str| line.is_empty() || line.starts_with([' ', '\t', '-']);
    let mut length = lines[from + 1..].iter().take_while(|line| is_of_block(line)).count();
    // An empty line before the next field is not the block's.
    while length > 0 && lines[from + length].trim().is_empty() {
        length -= 1;
    }
    let before = lines[..from].iter().copied();
    let after = lines[from + 1 + length..].iter().copied();
    let all: Vec<_> = before.chain(block.trim_end().lines()).chain(after).collect();
    Some(all.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_file_stays_as_it_was_written() {
        let text = "# why\nexpect:\n  decision: Denied\n  messages:\n  - a\n\n# the pod\nobject:\n  kind: Pod\n";
        let block = "expect:\n  decision: Allowed\n";
        let after = "# why\nexpect:\n  decision: Allowed\n\n# the pod\nobject:\n  kind: Pod\n";
        assert_eq!(replaced(text, block).unwrap(), after);
        assert_eq!(
            replaced("object: {}\nexpect:\n  decision: Denied", block).unwrap(),
            "object: {}\nexpect:\n  decision: Allowed\n"
        );
        assert_eq!(replaced("expect: {decision: Denied}\n", block), None);
    }
}
