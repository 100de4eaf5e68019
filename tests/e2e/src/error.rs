//! The harness's one error: what was tried, on what, and what came back.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a step of the harness failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program could not be started, or ended with a failure.
    #[error("`{command}` failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// The end of what it printed, or why it did not start.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("not within {after:?}: {what}\n  last state seen: {last}")]
    Deadline {
        /// The condition, in words.
        what: String,
        /// How long it was awaited.
        after: Duration,
        /// The last state seen.
        last: String,
    },
    /// A setting, an argument or the machine does not fit; the text says what to change.
    #[error("{0}")]
    Invalid(String),
    /// The Kubernetes API refused or could not be reached.
    #[error("kubernetes: {0}")]
    Kube(#[from] kube::Error),
    /// The kubeconfig could not be read.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// JSON of another program or of the API has an unexpected shape.
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
}

/// A result of the harness.
pub type Result<T> = std::result::Result<T, Error>;

/// Names the file in an I/O error.
pub(crate) trait At<T> {
    /// Adds `path` to the error.
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::File { path: path.as_ref().to_path_buf(), source })
    }
}
