//! Runtime facts: what executed and was loaded, for each image and file, aggregated. One line of NDJSON each.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{ImageDigest, Sha256Digest};

/// The schema name of a runtime fact.
pub const FACT_SCHEMA: &str = "zastava.runtime.fact@v1";

/// Hits that one fact counts at most: the largest number that every reader of JSON reads exactly.
pub const MAX_HITS: u64 = (1 << 53) - 1;

/// That a file was used in containers of an image, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeFact {
    /// [`FACT_SCHEMA`].
    pub schema: String,
    /// The image that ran: its repo digest if one is known, else its config digest.
    pub image_digest: ImageDigest,
    /// Path in the container's root, never the node's.
    pub path: String,
    /// SHA-256 of the content, where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// How it was used.
    pub usage: Usage,
    /// How often, [`MAX_HITS`] at most.
    pub hit_count: u64,
    /// The container that used it last.
    pub container_id: String,
    /// When it was used last.
    pub observed_at: Timestamp,
}

/// How a file was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Usage {
    /// As a program, or as a script that an interpreter ran.
    Executed,
    /// Mapped for execution: a library, or what a loader was told to run.
    Loaded,
}
