//! The seam to bills of materials.

use std::{future::Future, time::Duration};

use super::{delta::Delta, outcome::Answer};

/// Nothing can be said now; a later try may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Unavailable {
    /// The closed class, for metrics.
    pub(super) category: &'static str,
    /// What happened, and what to do.
    pub(super) message: String,
    /// When to try again, if the registry said so.
    pub(super) retry_after: Option<Duration>,
}

/// Who knows what an image's supplier says it contains.
pub(super) trait SbomSource: Send + Sync + 'static {
    /// Holds a delta against the signed bill of materials of its image, as it is for the platform of `node`.
    fn judge(&self, delta: &Delta, node: Option<&str>) -> impl Future<Output = Result<Answer, Unavailable>> + Send;
}
