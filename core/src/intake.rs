//! The client of the intake, which observers and webhooks share: one connection, to whichever replica leads.
//!
//! A replica that does not lead answers with the leader's address. The client goes there at once, with the same name
//! and the same authorities to verify it by, and stays until that fails. It never loops by itself: what may be tried
//! again comes back as [`Outcome::Retry`], and pauses are the caller's.

mod answer;
mod link;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use zastava_crds::wire::{
    report::{BatchMark, BatchReceipt, MAX_BATCH_BYTES, Problem, REPORTS_PATH, ReportBatch},
    sync::{NodeStatus, RuleSet, SYNC_HOLD_SECONDS, SYNC_PATH},
};

use self::link::Link;
use crate::settings::webhook::IntakeSettings;

const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// The intake holds a sync open for some seconds; a silent network is noticed soon after.
const SYNC_TIMEOUT: Duration = Duration::from_secs(SYNC_HOLD_SECONDS + 5);
/// Bytes of a receipt or a problem.
const MAX_RECEIPT_BYTES: usize = 64 * 1024;
/// Bytes of a rule set: all namespaces of a large cluster with their labels.
const MAX_RULES_BYTES: usize = 16 * 1024 * 1024;
/// Requests for one answer at most: a replica, the leader it names, and a replica again when that one is gone.
const MAX_HOPS: usize = 4;

/// Settings that no client can be made of.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The URL is not `https://host[:port]`.
    #[error("intake URL {url:?}: {message}")]
    Url {
        /// What is set.
        url: String,
        /// What is wrong with it.
        message: &'static str,
    },
    /// No certificate can carry this name.
    #[error("intake server name {0:?} is no DNS name")]
    Name(String),
}

impl IntakeError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Url { .. } => "intake_url",
            Self::Name(_) => "intake_name",
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// Dealt with.
    Taken(T),
    /// Refused for good: the same will never be taken.
    Refused(Problem),
    /// Not taken yet.
    Retry(Retry),
}

/// Why a request is to be made again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", <&str>::from(.reason))]
pub struct Retry {
    /// From a closed set, for metrics.
    pub reason: RetryReason,
    /// For a person; holds no secret.
    pub detail: String,
    /// When the intake wants to see it again.
    pub after: Option<Duration>,
}

/// The closed set of reasons to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum RetryReason {
    /// The authorities can't be read.
    Trust,
    /// The token can't be read, or is not taken (any more).
    Credential,
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// No replica leads, or none is known to.
    NoLeader,
    /// The intake asks for a pause, or failed.
    Busy,
    /// An answer that the protocol does not know.
    Answer,
}

impl Retry {
    fn new(reason: RetryReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), after: None }
    }
}

/// The client. Clones share one connection.
#[derive(Clone, Debug)]
pub struct IntakeClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Mutex<Link>,
}

impl IntakeClient {
    /// A client that has not connected yet. Files are read at each request, so that they may change, or come later.
    ///
    /// # Errors
    /// [`IntakeError`].
    pub fn new(settings: &IntakeSettings) -> Result<Self, IntakeError> {
        Ok(Self(Arc::new(Inner { link: Mutex::new(Link::new(settings)?) })))
    }

    /// Sends one batch once.
    pub async fn report(&self, batch: &ReportBatch) -> Outcome<BatchReceipt> {
        match serde_json::to_vec(batch) {
            Ok(body) => self.report_encoded(&batch.mark, body.into()).await,
            Err(error) => Outcome::Refused(problem(StatusCode::BAD_REQUEST, format!("not JSON: {error}"))),
        }
    }

    /// Sends one batch once. `body` is the JSON of a [`ReportBatch`] under `mark`: who repeats it sends the same bytes.
    pub async fn report_encoded(&self, mark: &BatchMark, body: Bytes) -> Outcome<BatchReceipt> {
        if body.len() > MAX_BATCH_BYTES {
            let title = format!("a batch of {} bytes: at most {MAX_BATCH_BYTES}", body.len());
            return Outcome::Refused(problem(StatusCode::PAYLOAD_TOO_LARGE, title));
        }
        let asked = Asked { path: REPORTS_PATH, body, timeout: REPORT_TIMEOUT, bound: MAX_RECEIPT_BYTES };
        let outcome = self.ask::<BatchReceipt>(&asked).await;
        match outcome {
            Outcome::Taken(Some(receipt)) if receipt.mark == *mark => Outcome::Taken(receipt),
            Outcome::Taken(_) => Outcome::Retry(Retry::new(RetryReason::Answer, "the receipt is for another batch")),
            Outcome::Refused(problem) => Outcome::Refused(problem),
            Outcome::Retry(retry) => Outcome::Retry(retry),
        }
    }

    /// Tells the node's state and waits for other rules: `Taken(None)` when there were none within
    /// [`SYNC_HOLD_SECONDS`]. To tell another state before that, drop the future and call again.
    pub async fn sync(&self, status: &NodeStatus) -> Outcome<Option<Box<RuleSet>>> {
        let body = match serde_json::to_vec(status) {
            Ok(body) => body.into(),
            Err(error) => return Outcome::Refused(problem(StatusCode::BAD_REQUEST, format!("not JSON: {error}"))),
        };
        let asked = Asked { path: SYNC_PATH, body, timeout: SYNC_TIMEOUT, bound: MAX_RULES_BYTES };
        match self.ask::<Box<RuleSet>>(&asked).await {
            Outcome::Taken(rules) => Outcome::Taken(rules),
            Outcome::Refused(problem) => Outcome::Refused(problem),
            Outcome::Retry(retry) => Outcome::Retry(retry),
        }
    }

    /// One question, asked of whoever leads.
    async fn ask<T: DeserializeOwned>(&self, asked: &Asked) -> Outcome<Option<T>> {
        let mut last = Retry::new(RetryReason::NoLeader, "replicas name each other as the leader");
        for _ in 0..MAX_HOPS {
            let line = match self.0.link.lock().await.line().await {
                Ok(line) => line,
                Err(retry) => return Outcome::Retry(retry),
            };
            match answer::of(line.request(asked), asked.bound).await {
                answer::Answer::Ok(bytes) => return answer::parse(&bytes).map_or_else(Outcome::Retry, Outcome::Taken),
                answer::Answer::Empty => return Outcome::Taken(None),
                answer::Answer::Refused(problem) => return Outcome::Refused(problem),
                answer::Answer::Again(retry) => return Outcome::Retry(retry),
                answer::Answer::Elsewhere(Some(leader)) => self.0.link.lock().await.follow(&line, leader),
                answer::Answer::Elsewhere(None) => {
                    self.0.link.lock().await.forget(&line);
                    return Outcome::Retry(Retry::new(RetryReason::NoLeader, "no replica leads now"));
                }
                // The leader is gone or can't be reached from here: the service knows who else there is.
                answer::Answer::Broken(retry) => {
                    let led = line.leader.is_some();
                    self.0.link.lock().await.forget(&line);
                    if !led || retry.reason == RetryReason::Timeout {
                        return Outcome::Retry(retry);
                    }
                    last = retry;
                }
            }
        }
        Outcome::Retry(last)
    }
}

/// A question.
#[derive(Debug)]
struct Asked {
    path: &'static str,
    body: Bytes,
    timeout: Duration,
    bound: usize,
}

fn problem(status: StatusCode, title: impl Into<String>) -> Problem {
    Problem { title: title.into(), detail: None, status: status.as_u16() }
}
