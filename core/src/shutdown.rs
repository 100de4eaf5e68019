//! The end of a program: SIGTERM or SIGINT cancels one token, and every task ends by it.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Why signals can't be received.
#[derive(Debug, thiserror::Error)]
#[error("signals can't be received: {0}")]
pub struct ShutdownError(#[from] std::io::Error);

impl ShutdownError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        "signal"
    }
}

/// A token that the first SIGTERM or SIGINT cancels. Needs a running tokio runtime.
///
/// # Errors
/// [`ShutdownError`] when no handler can be installed.
pub fn token() -> Result<CancellationToken, ShutdownError> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!(signal = "SIGTERM", "shutting down"),
            _ = int.recv() => tracing::info!(signal = "SIGINT", "shutting down"),
        }
        cancelled.cancel();
    });
    Ok(token)
}
