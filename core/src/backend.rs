//! The StellaOps backend, as all programs ask it: one client with its identity, and its words about images.
//!
//! Order of data: [`verdicts`] takes questions, answers from memory or gathers them → [`question`] puts a batch to the
//! backend → [`client`] sends it, [`authenticate`]d → [`terms`] say what a policy makes of the word.

pub mod authenticate;
pub mod client;
mod link;
pub mod metrics;
mod pause;
pub mod question;
pub mod terms;
pub mod verdicts;
mod words;

use std::time::Duration;

/// Characters of other people's words in a message of ours.
const MAX_TEXT: usize = 300;

/// Why the backend's word can't be had now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unavailable {
    /// From a closed set, for metrics.
    pub cause: Cause,
    /// For a person; holds no secret.
    pub detail: String,
    /// When the backend wants to be asked again.
    pub after: Option<Duration>,
}

/// The closed set of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// The installation names no backend.
    NotConfigured,
    /// Token or client certificate can't be read, or are not taken.
    Credential,
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The caller could not wait for the answer; the question goes on.
    Deadline,
    /// It asks for a pause.
    Busy,
    /// It failed.
    Failed,
    /// It does not take the question.
    Refused,
    /// An answer that the contract does not know.
    Answer,
    /// It answered for another tenant or project.
    Tenant,
    /// It failed a moment ago, and is not asked until its pause is over.
    Paused,
    /// More is asked at once than this program asks.
    Overload,
}

impl Unavailable {
    fn new(cause: Cause, detail: impl AsRef<str>) -> Self {
        Self { cause, detail: line(detail.as_ref()), after: None }
    }

    /// The installation names no backend.
    pub fn not_configured() -> Self {
        Self::new(Cause::NotConfigured, "no backend is configured: set backend.url in the chart's values")
    }

    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        self.cause.into()
    }
}

/// One printable line, bounded: what others wrote must not forge another.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut whole = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        whole = format!("{whole}: {cause}");
        next = cause.source();
    }
    line(&whole)
}

#[cfg(test)]
mod tests;
