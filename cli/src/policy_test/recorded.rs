//! What registries answered, on disk: `recorded/answers.json`, and bodies by their digests in `recorded/blobs`.
//!
//! Nothing of who asked is kept, and the same answers are the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use strum::VariantNames as _;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::answer::UnknownCause;

use crate::{bounded, output::plain};

/// Bytes of `answers.json` at most.
const MAX_ANSWERS: u64 = 64 * 1024 * 1024;
/// Bytes of one body at most.
const MAX_BODY: u64 = 64 * 1024 * 1024;

/// Answers by registry, then by path.
pub type Answers = BTreeMap<String, BTreeMap<String, Written>>;

/// Answers by registry and path, and the bodies that they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// By registry, then by path.
    pub answers: Answers,
    /// By digest.
    pub bodies: BTreeMap<Sha256Digest, Vec<u8>>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Written {
    /// It is there.
    Found(Found),
    /// There is none.
    None {},
    /// No answer, by its class, such as `unauthorized` or `unreachable`: written by hand, or because access was denied.
    Unknown(String),
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Found {
    /// Digest of the body.
    pub body: Sha256Digest,
    /// `content-type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `docker-content-digest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `link`: where the next page is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    version: u32,
    answers: Answers,
}

/// Recorded answers that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// The file can't be read or written.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was recorded.
    #[error("{}: {why}; record it again with kubectl zastava policy record", file.display())]
    Malformed {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An answer that was written by hand is of no class that there is.
    #[error("{}: {answer}: {class:?} is no class: write one of {}", file.display(), UnknownCause::VARIANTS.join(", "))]
    Class {
        /// Which file.
        file: PathBuf,
        /// Registry and path.
        answer: String,
        /// As it is written.
        class: String,
    },
}

impl RecordedError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "recorded_unreadable",
            Self::Malformed { .. } => "recorded_malformed",
            Self::Class { .. } => "recorded_class",
        }
    }
}

impl Recorded {
    /// Reads a folder; no folder, nothing recorded. Every body is held against its digest.
    pub fn load(folder: &Path) -> Result<Self, RecordedError> {
        let answers = answers(folder)?;
        let mut bodies = BTreeMap::new();
        for found in answers.values().flat_map(BTreeMap::values).filter_map(Written::found) {
            if bodies.contains_key(&found.body) {
                continue;
            }
            let file = blob(folder, &found.body);
            let body = contents(&file, MAX_BODY)?;
            if Sha256Digest::of(&body) != found.body {
                return Err(RecordedError::Malformed { file, why: "its bytes were changed".to_owned() });
            }
            bodies.insert(found.body.clone(), body);
        }
        Ok(Self { answers, bodies })
    }

    /// Writes a folder, and removes the bodies that nothing names any more.
    pub fn save(&self, folder: &Path) -> Result<(), RecordedError> {
        let blobs = folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(|source| RecordedError::Unreadable { file: blobs.clone(), source })?;
        for (digest, body) in &self.bodies {
            write(&blob(folder, digest), body)?;
        }
        let file = folder.join("answers.json");
        let written = File { version: 1, answers: self.answers.clone() };
        let mut text = serde_json::to_string_pretty(&written)
            .map_err(|error| RecordedError::Malformed { file: file.clone(), why: error.to_string() })?;
        text.push('\n');
        write(&file, text.as_bytes())?;
        let kept: BTreeSet<_> = self.bodies.keys().map(|digest| digest.hex().to_owned()).collect();
        let unreadable = |source| RecordedError::Unreadable { file: blobs.clone(), source };
        for entry in fs::read_dir(&blobs).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if !kept.contains(&*entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).map_err(unreadable)?;
            }
        }
        Ok(())
    }

    /// How many answers there are.
    pub fn count(&self) -> usize {
        self.answers.values().map(BTreeMap::len).sum()
    }
}

impl Written {
    fn found(&self) -> Option<&Found> {
        match self {
            Self::Found(found) => Some(found),
            Self::None {} | Self::Unknown(_) => None,
        }
    }
}

/// The answers of a folder without their bodies; no folder, none.
pub fn answers(folder: &Path) -> Result<Answers, RecordedError> {
    let file = folder.join("answers.json");
    if !file.exists() {
        return Ok(Answers::default());
    }
    let bytes = contents(&file, MAX_ANSWERS)?;
    let malformed = |why: String| RecordedError::Malformed { file: file.clone(), why };
    let File { version, answers } = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    if version != 1 {
        return Err(malformed(format!("version {version} can't be read: 1 can")));
    }
    for (registry, paths) in &answers {
        for (path, written) in paths {
            if let Written::Unknown(class) = written
                && class.parse::<UnknownCause>().is_err()
            {
                let answer = plain(&format!("{registry}{path}"));
                return Err(RecordedError::Class { file, answer, class: class.chars().take(64).collect() });
            }
        }
    }
    Ok(answers)
}

fn blob(folder: &Path, digest: &Sha256Digest) -> PathBuf {
    folder.join("blobs").join(digest.hex())
}

fn contents(file: &Path, limit: u64) -> Result<Vec<u8>, RecordedError> {
    let bytes = bounded::read_regular(file, limit)
        .map_err(|source| RecordedError::Unreadable { file: file.to_owned(), source })?;
    let why = || format!("more than {limit} bytes");
    bytes.ok_or_else(|| RecordedError::Malformed { file: file.to_owned(), why: why() })
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), RecordedError> {
    fs::write(file, bytes).map_err(|source| RecordedError::Unreadable { file: file.to_owned(), source })
}
