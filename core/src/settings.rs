//! Settings: read once at start into one immutable object, every problem told at once.

pub mod backend;
pub mod operator;
pub mod registries;
pub mod webhook;

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

/// Where operator and webhook find their settings.
pub const SETTINGS_PATH: &str = "/etc/zastava/settings.yaml";
const MAX_BYTES: u64 = 1024 * 1024;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {field}: {message}; {hint}")]
pub struct Problem {
    /// From a closed set, such as `SURFACE_ENV_MISSING_ENDPOINT`.
    pub code: &'static str,
    /// The setting.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("SURFACE_ENV_UNREADABLE: {path}: {source}; mount the settings there")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("SURFACE_ENV_INVALID: {path}: {message}")]
    Invalid {
        /// Which.
        path: String,
        /// Where, and what is wrong.
        message: String,
    },
    /// All problems that were found.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

impl SettingsError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "settings_unreadable",
            Self::Invalid { .. } => "settings_invalid",
            Self::Problems(_) => "settings_problems",
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// What settings must hold beyond their form.
pub trait Validate {
    /// Everything that is wrong, in the order of the fields.
    fn problems(&self) -> Vec<Problem>;
}

/// Reads settings from a YAML file and holds them against their rules.
///
/// # Errors
/// [`SettingsError`], with every problem at once.
pub fn load<T: DeserializeOwned + Validate>(path: &Path) -> Result<T, SettingsError> {
    let shown = || path.display().to_string();
    let unreadable = |source| SettingsError::Unreadable { path: shown(), source };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_BYTES {
        return Err(SettingsError::Invalid { path: shown(), message: format!("{length} bytes: at most {MAX_BYTES}") });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let settings: T = serde_saphyr::from_str(&text)
        .map_err(|error| SettingsError::Invalid { path: shown(), message: error.to_string() })?;
    let problems = settings.problems();
    if problems.is_empty() { Ok(settings) } else { Err(SettingsError::Problems(problems)) }
}
