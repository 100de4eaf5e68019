//! Files of YAML or JSON documents, each known by file and line.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::bounded;

/// Bytes of one file at most.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Files of one folder at most.
const MAX_FILES: usize = 1000;

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it is.
    pub place: Place,
    /// What it says.
    pub value: Value,
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Its first line.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Documents that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file or folder can't be read.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no YAML.
    #[error("{place}: {why}")]
    Malformed {
        /// Where.
        place: Place,
        /// What is wrong.
        why: String,
    },
    /// More than can be meant.
    #[error("{}: {what}", file.display())]
    TooLarge {
        /// Which.
        file: PathBuf,
        /// In what.
        what: String,
    },
}

impl DocumentError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "document_unreadable",
            Self::Malformed { .. } => "document_malformed",
            Self::TooLarge { .. } => "document_size",
        }
    }
}

impl Document {
    /// A field that is text.
    pub fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `kind`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }
}

/// The documents of a file; lists are taken apart, empty documents left out. `-` is standard input.
pub fn read(file: &Path) -> Result<Vec<Document>, DocumentError> {
    parse(file, &text(file)?)
}

/// The text of a file. `-` is standard input.
pub fn text(file: &Path) -> Result<String, DocumentError> {
    let unreadable = |source| DocumentError::Unreadable { file: file.to_owned(), source };
    let bytes =
        if file == Path::new("-") { bounded::all(io::stdin(), MAX_FILE) } else { bounded::read(file, MAX_FILE) };
    let bytes = bytes.map_err(unreadable)?.ok_or_else(|| DocumentError::TooLarge {
        file: file.to_owned(),
        what: format!("more than {MAX_FILE} bytes"),
    })?;
    String::from_utf8(bytes).map_err(|_| unreadable(io::Error::other("is not UTF-8")))
}

/// The documents of all `.yaml`, `.yml` and `.json` files of a folder, by name; no folder, no documents.
pub fn read_folder(folder: &Path) -> Result<Vec<Document>, DocumentError> {
    let mut documents = Vec::new();
    for file in files(folder)? {
        documents.extend(read(&file)?);
    }
    Ok(documents)
}

/// The `.yaml`, `.yml` and `.json` files of a folder, sorted; no folder, no files.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let unreadable = |source| DocumentError::Unreadable { file: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_document = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if is_document && path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(DocumentError::TooLarge {
                file: folder.to_owned(),
                what: format!("more than {MAX_FILES} files"),
            });
        }
    }
    files.sort();
    Ok(files)
}

/// The documents of a text that is or could be a file's.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Document>, DocumentError> {
    let mut documents = Vec::new();
    for (line, part) in parts(text) {
        let value: Value = serde_saphyr::from_str(&part).map_err(|error| {
            let at = error.location().map_or(0, |at| usize::try_from(at.line()).unwrap_or(1).saturating_sub(1));
            let place = Place { file: file.to_owned(), line: line + at };
            DocumentError::Malformed { place, why: one_line(&error) }
        })?;
        if value.is_null() {
            continue;
        }
        let place = Place { file: file.to_owned(), line };
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array();
        match value {
            Value::Object(mut fields) if is_list => {
                let items = fields.remove("items").unwrap_or_default();
                let items = if let Value::Array(items) = items { items } else { Vec::new() };
                documents.extend(items.into_iter().map(|value| Document { place: place.clone(), value }));
            }
            value => documents.push(Document { place, value }),
        }
    }
    Ok(documents)
}

/// Documents with their first lines that hold something, counted from 1.
fn parts(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for (number, line) in text.lines().enumerate() {
        let marker = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = marker {
            parts.push((number + 1, format!("{rest}\n")));
            continue;
        }
        if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let begins = |(line, part): (usize, String)| {
        let before = part.lines().position(is_content)?;
        // The lines before are left out, so that a message's line is counted from where the document begins.
        let rest: Vec<_> = part.lines().skip(before).collect();
        Some((line + before, rest.join("\n")))
    };
    parts.into_iter().filter_map(begins).collect()
}

/// The first line of a message: the others show the text again.
fn one_line(error: &serde_saphyr::Error) -> String {
    let message = error.without_snippet().to_string();
    message.lines().next().unwrap_or("can't be read").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_their_lines_and_lists_are_taken_apart() {
        let text =
            "# a comment\n---\n\nkind: A\n---\n# nothing\n--- \nkind: SecretList\nitems: [{kind: B}, {kind: C}]\n";
        let documents = parse(Path::new("f.yaml"), text).unwrap();
        let seen: Vec<_> = documents.iter().map(|d| (d.kind(), d.place.line)).collect();
        assert_eq!(seen, [("A", 4), ("B", 8), ("C", 8)]);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let error = parse(Path::new("f.yaml"), "a: 1\n---\n# x\nb: [1\nc: 2\n").unwrap_err().to_string();
        assert!(error.starts_with("f.yaml:4: ") || error.starts_with("f.yaml:5: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
