//! Logs: one JSON object a line on standard output, filtered by `ZASTAVA_LOG`.

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _};

/// Variable with the filter, such as `info` or `info,zastava_verify=debug`.
pub const FILTER: &str = "ZASTAVA_LOG";
const DEFAULT: &str = "info,kube_client=warn,kube_runtime=warn,hyper=warn,rustls=warn,tower=warn";

/// Why logs can't be written.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("{FILTER}={value:?}: {source}; write for example info or info,zastava_verify=debug")]
    Filter {
        /// What is set.
        value: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber was installed before.
    #[error("logs are set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

impl TelemetryError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Filter { .. } => "log_filter",
            Self::Twice(_) => "log_twice",
        }
    }
}

/// Sets logs up for the whole process and says who it is. Call it first in `main`.
///
/// # Errors
/// [`TelemetryError`] for a filter that does not parse.
pub fn init(component: &'static str) -> Result<(), TelemetryError> {
    let value = std::env::var(FILTER).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&value).map_err(|source| TelemetryError::Filter { value, source })?;
    registry().with(filter).with(fmt::layer().json().flatten_event(true).with_current_span(false)).try_init()?;
    tracing::info!(component, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(())
}
