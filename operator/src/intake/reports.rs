//! `POST /v1/reports`: a batch into findings.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use zastava_crds::wire::report::{BatchReceipt, MAX_BATCH_BYTES};

use super::{
    batch::Batch,
    reject::Reject,
    review::Reviewer,
    router::{Intake, read},
};
use crate::finding::{
    BatchError,
    attribute::PodSource,
    store::{FindingStore, StoreError},
};

pub(super) async fn handle<R: Reviewer, S: FindingStore + 'static, P: PodSource + 'static>(
    State(intake): State<Arc<Intake<R, S, P>>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = take(&intake, &headers, body).await.map(|receipt| Json(receipt).into_response());
    intake.answer("reports", result)
}

async fn take<R: Reviewer, S: FindingStore + 'static, P: PodSource + 'static>(
    intake: &Intake<R, S, P>,
    headers: &HeaderMap,
    body: Body,
) -> Result<BatchReceipt, Reject> {
    let caller = intake.caller(headers).await?;
    // A body is read only when there is room to work on it.
    let _place = intake.turns.waiting.try_acquire().map_err(|_| Reject::Busy)?;
    let _turn = intake.turns.working.acquire().await.map_err(|_| Reject::Busy)?;
    let Batch { mark, records } = Batch::read(&read(body, MAX_BATCH_BYTES).await?)?;
    if !caller.owns(&mark) {
        return Err(Reject::not_yours(&caller, "mark.reporter"));
    }
    match intake.merger.merge(&mark, &caller.sender(), records).await {
        Ok(receipt) => Ok(receipt),
        // The reporter had this batch's receipt before it sent a later one: it is dealt with, and must not be stuck.
        Err(BatchError::Superseded { .. }) => Ok(BatchReceipt { mark, merged: 0, refused: Vec::new() }),
        Err(BatchError::Store(StoreError::NotLeading)) => Err(Reject::NotLeader(intake.leadership.holder())),
        Err(error) => Err(error.into()),
    }
}
