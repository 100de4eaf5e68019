//! What one policy says about one image of a request.

use std::fmt;

use jiff::Timestamp;
use zastava_core::backend::terms::Note;
use zastava_crds::digest::ImageDigest;
use zastava_verify::verdict::{Refusal, UnknownVerdict};

use crate::review::images::ImageUse;

/// What one policy says about one image of a request.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The image, where it is named.
    pub image: ImageUse,
    /// What is said about it.
    pub judged: Judged,
}

/// What is said about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// `match.images` of the policy does not select it.
    NotSelected,
    /// An exception of the policy covers it.
    Excepted(Used),
    /// All that is asked was shown.
    Satisfied {
        /// The digest that satisfies.
        digest: ImageDigest,
        /// What is worth telling of the backend's word on it.
        note: Option<Note>,
    },
    /// It was shown that the image does not satisfy the policy.
    Failed(Problem),
    /// Nothing can be said.
    Unknown(Problem),
}

impl Judged {
    /// What is worth telling of the backend's word on an image that satisfies.
    pub fn note(&self) -> Option<&Note> {
        match self {
            Self::Satisfied { note, .. } => note.as_ref(),
            Self::NotSelected | Self::Excepted(_) | Self::Failed(_) | Self::Unknown(_) => None,
        }
    }
}

/// An exception that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// Why it was granted.
    pub reason: String,
    /// When it ends.
    pub expires: Timestamp,
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {} ({})", self.name, self.expires, self.reason)
    }
}

/// Why an image does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What the reference resolved to, if it did.
    pub digest: Option<ImageDigest>,
    /// The requirement, such as `signatures[release]`.
    pub requirement: String,
    /// What was found instead.
    pub found: String,
    /// What to do.
    pub next_step: String,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            digest: refusal.digest,
            requirement: refusal.requirement,
            found: refusal.found,
            next_step: refusal.next_step,
        }
    }
}

impl From<UnknownVerdict> for Problem {
    fn from(unknown: UnknownVerdict) -> Self {
        Self {
            digest: unknown.digest,
            requirement: "verification".to_owned(),
            found: unknown.message,
            next_step: unknown.next_step,
        }
    }
}
