//! Where findings are kept: the API server, or a double in tests.

mod api;
mod cache;

use std::future::Future;

use zastava_crds::finding::RuntimeFinding;

pub use self::api::ApiStore;
pub(super) use self::cache::Cache;

/// Why a finding could not be read or written.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// Somebody wrote since it was read.
    #[error("the finding was written by somebody else")]
    Conflict,
    /// It is there already.
    #[error("the finding is there already")]
    Exists,
    /// It is not there.
    #[error("the finding is gone")]
    Missing,
    /// The namespace is gone, or takes no more objects.
    #[error("the namespace takes no more objects")]
    NamespaceGone,
    /// The API server finds it invalid: no retry makes it better.
    #[error("invalid: {0}")]
    Invalid(String),
    /// This replica does not lead: it must not write.
    #[error("this replica does not lead")]
    NotLeading,
    /// The API server refused or did not answer; whether a write happened is unknown.
    #[error("API server: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Exists => "exists",
            Self::Missing => "missing",
            Self::NamespaceGone => "namespace_gone",
            Self::Invalid(_) => "invalid",
            Self::NotLeading => "not_leading",
            Self::Unavailable(_) => "api",
        }
    }
}

/// Where findings are kept. Exactness leans on two promises only: a create of a name that is taken fails, and a status
/// write succeeds only if nobody wrote since its object was read. What is read may be old.
pub trait FindingStore: Send + Sync {
    /// The finding; `fresh` asks the API server, else a copy that may be old will do.
    fn get(
        &self,
        namespace: &str,
        name: &str,
        fresh: bool,
    ) -> impl Future<Output = Result<Option<RuntimeFinding>, StoreError>> + Send;

    /// Creates it, without status, and returns it as stored.
    fn create(&self, finding: &RuntimeFinding) -> impl Future<Output = Result<RuntimeFinding, StoreError>> + Send;

    /// Writes its status under its resourceVersion.
    fn write_status(&self, finding: &RuntimeFinding) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes it, if nobody wrote since it was read.
    fn delete(&self, finding: &RuntimeFinding) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Findings in a namespace, about; with `node`, those that this node was the first to tell of.
    fn count(&self, namespace: &str, node: Option<&str>) -> usize;

    /// All findings, maybe old.
    fn all(&self) -> Vec<std::sync::Arc<RuntimeFinding>>;
}
