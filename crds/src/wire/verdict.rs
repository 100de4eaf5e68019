//! Verdicts: what the backend says about images, by their digests.
//!
//! `POST {backend}/api/v1/policy/runtime` with [`VerdictRequest`] answers 200 [`VerdictAnswer`], or a problem
//! (`application/problem+json`, RFC 7807). Fields that a reader does not know are ignored.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{ImageDigest, Sha256Digest};

/// The schema name of question and answer.
pub const VERDICT_SCHEMA: &str = "zastava.policy.runtime@v1";
/// Path of the endpoint under the backend's URL.
pub const VERDICT_PATH: &str = "/api/v1/policy/runtime";
/// Images of one question at most.
pub const MAX_IMAGES: usize = 100;
/// Bytes of an answer at most.
pub const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// Which images are asked about, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerdictRequest {
    /// [`VERDICT_SCHEMA`].
    pub schema: String,
    /// The tenant that asks; never empty.
    #[schemars(length(min = 1, max = 253))]
    pub tenant_id: String,
    /// Its project; never empty.
    #[schemars(length(min = 1, max = 253))]
    pub project_id: String,
    /// The cluster that asks.
    #[schemars(length(max = 253))]
    pub cluster: String,
    /// Images, each once, sorted. The digest alone names an image; `kind` says what the asker knows of it.
    #[schemars(length(min = 1, max = 100))]
    pub images: Vec<ImageDigest>,
}

/// What the backend says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerdictAnswer {
    /// [`VERDICT_SCHEMA`].
    pub schema: String,
    /// As asked: an answer for another tenant is no answer.
    pub tenant_id: String,
    /// As asked.
    pub project_id: String,
    /// One a digest. A digest that is not answered is `unknown`.
    pub verdicts: Vec<ImageVerdict>,
}

/// The backend's word about one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageVerdict {
    /// The digest, as asked.
    pub digest: Sha256Digest,
    /// What is said of it.
    pub verdict: VerdictWord,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
    /// Where a person reads more (https).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub link: Option<String>,
    /// Revision of the backend's policy that says so.
    pub policy_revision: String,
    /// When the backend last stood by this word.
    pub issued_at: Timestamp,
    /// How long it may be taken without asking again. Absent: as long as the asker likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
}

/// What the backend says of an image.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr, strum::Display,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum VerdictWord {
    /// It may run.
    Pass,
    /// It may run, and somebody should look at it.
    Warn,
    /// It must not run.
    Fail,
    /// Not known, not yet evaluated, or a word that this version does not know: never a pass.
    #[serde(other)]
    Unknown,
}

impl VerdictWord {
    /// Rises with what it forbids: of two words about one image the stricter counts.
    pub fn strictness(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Warn => 1,
            Self::Unknown => 2,
            Self::Fail => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_strings_and_one_that_is_not_known_is_unknown() {
        let word = |text: &str| serde_json::from_str::<VerdictWord>(text);
        assert_eq!(word("\"pass\"").unwrap(), VerdictWord::Pass);
        assert_eq!(word("\"quarantine\"").unwrap(), VerdictWord::Unknown);
        assert_eq!(word("\"Pass\"").unwrap(), VerdictWord::Unknown);
        for not_text in ["0", "null", "true", "{}"] {
            assert!(word(not_text).is_err(), "{not_text}");
        }
    }
}
