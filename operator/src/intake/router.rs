//! The routes, and what their handlers share.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::post,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::{report::REPORTS_PATH, sync::SYNC_PATH};

use super::{
    authenticate::Authenticator, caller::Caller, holds::Holds, metrics::IntakeMetrics, reject::Reject, reports,
    review::Reviewer, sync,
};
use crate::{
    finding::{Merger, attribute::PodSource, store::FindingStore},
    leader::Leadership,
    nodes::{NodeRegistry, RuleBook},
};

/// Batches that are read and merged at once; with their bodies they bound the memory.
const BATCHES_AT_ONCE: usize = 16;
/// Batches that wait for their turn, unread.
const BATCHES_WAITING: usize = 512;
/// Longest that a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the handlers share.
pub(super) struct Intake<R, S, P> {
    pub(super) authenticator: Authenticator<R>,
    pub(super) merger: Merger<S, P>,
    pub(super) leadership: Leadership,
    pub(super) nodes: NodeRegistry,
    pub(super) rules: RuleBook,
    pub(super) metrics: IntakeMetrics,
    /// Cancelled when the program ends: held syncs then end at once.
    pub(super) ending: CancellationToken,
    pub(super) turns: Turns,
    pub(super) holds: Holds,
    /// The rule set as it is sent, by its hash: the same for every node.
    pub(super) encoded: Mutex<Option<(String, Bytes)>>,
}

/// Who may work, and who may wait for it.
pub(super) struct Turns {
    pub(super) working: Semaphore,
    pub(super) waiting: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self { working: Semaphore::new(BATCHES_AT_ONCE), waiting: Semaphore::new(BATCHES_WAITING) }
    }
}

impl<R: Reviewer, S: FindingStore + 'static, P: PodSource + 'static> Intake<R, S, P> {
    /// The routes over this.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route(REPORTS_PATH, post(reports::handle::<R, S, P>))
            .route(SYNC_PATH, post(sync::handle::<R, S, P>))
            .fallback(|| async { Reject::NoSuchPath })
            .method_not_allowed_fallback(|| async { Reject::NoSuchPath })
            .with_state(Arc::new(self))
    }

    /// The caller, if this replica leads and the token is true.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Reject> {
        self.led()?;
        Ok(self.authenticator.caller(headers).await?)
    }

    /// This replica leads.
    pub(super) fn led(&self) -> Result<(), Reject> {
        match self.leadership.claim() {
            Ok(_) => Ok(()),
            Err(_) => Err(Reject::NotLeader(self.leadership.holder())),
        }
    }

    /// Counts an answer and gives it.
    pub(super) fn answer(&self, endpoint: &'static str, result: Result<Response, Reject>) -> Response {
        match result {
            Ok(response) => {
                self.metrics.answered(endpoint, "ok");
                response
            }
            Err(reject) => {
                self.metrics.answered(endpoint, reject.category());
                tracing::debug!(endpoint, category = reject.category(), error = %reject, "a request was not taken");
                reject.into_response()
            }
        }
    }
}

/// The whole body, within bounds of length and time.
pub(super) async fn read(body: Body, max: usize) -> Result<Bytes, Reject> {
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Reject::Body(max)),
        Err(_) => Err(Reject::Slow),
    }
}
