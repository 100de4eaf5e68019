//! Streams: records of one severity that came one way. Eviction works on streams, mildest first.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator;
use zastava_crds::wire::event::Severity;

use crate::pipeline::Lane;

/// Records of one severity and lane. The order is the order of eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Stream {
    /// How much the records matter.
    pub severity: Severity,
    /// The way they came.
    pub lane: Lane,
}

impl Ord for Stream {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.severity, self.lane as u8).cmp(&(other.severity, other.lane as u8))
    }
}

impl PartialOrd for Stream {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.severity, <&str>::from(self.lane))
    }
}

/// Text that names no stream.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a stream: expected <Severity>-<lane>")]
pub struct StreamError(String);

impl FromStr for Stream {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        let parsed = text.split_once('-').and_then(|(severity, lane)| {
            let lane = Lane::iter().find(|&known| <&str>::from(known) == lane)?;
            Some(Self { severity: severity.parse().ok()?, lane })
        });
        parsed.ok_or_else(|| StreamError(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Stream {
    type Error = StreamError;

    fn try_from(text: String) -> Result<Self, StreamError> {
        text.parse()
    }
}

impl From<Stream> for String {
    fn from(stream: Stream) -> Self {
        stream.to_string()
    }
}
