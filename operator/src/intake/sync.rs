//! `POST /v1/sync`: an observer's state, held open until its rules change.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use zastava_crds::wire::sync::{NodeStatus, RuleSet, SYNC_HOLD_SECONDS};

use super::{
    caller::Caller,
    reject::Reject,
    review::Reviewer,
    router::{Intake, read},
};
use crate::finding::{attribute::PodSource, store::FindingStore};

/// Bytes of a state at most: 100 uncovered pods with the longest of names.
const MAX_STATUS_BYTES: usize = 64 * 1024;
/// Uncovered pods at most, as the contract says.
const MAX_UNCOVERED: usize = 100;
/// Reasons at most: each once, of a closed set.
const MAX_REASONS: usize = 16;
/// Losses at most: each reason once.
const MAX_DROPPED: usize = 16;

pub(super) async fn handle<R: Reviewer, S: FindingStore + 'static, P: PodSource + 'static>(
    State(intake): State<Arc<Intake<R, S, P>>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let result = hold(&intake, &headers, body).await;
    intake.answer("sync", result)
}

async fn hold<R: Reviewer, S: FindingStore + 'static, P: PodSource + 'static>(
    intake: &Intake<R, S, P>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Reject> {
    let caller = intake.caller(headers).await?;
    let Caller::Observer { node, .. } = &caller else { return Err(Reject::NotAnObserver) };
    let status = read_status(&read(body, MAX_STATUS_BYTES).await?)?;
    if status.node != *node {
        return Err(Reject::not_yours(&caller, "node"));
    }
    if let Some(mark) = &status.acknowledged {
        // Another's confirmation would take away the mark that keeps its count exact.
        if !caller.owns(mark) {
            return Err(Reject::not_yours(&caller, "acknowledged.reporter"));
        }
        intake.nodes.confirm(mark);
    }
    let known = status.rules_hash.clone();
    intake.nodes.record(status)?;
    let hold = intake.holds.begin(node);
    tokio::select! {
        rules = intake.rules.other_than(&known) => Ok(encode(intake, &rules)?),
        () = tokio::time::sleep(Duration::from_secs(SYNC_HOLD_SECONDS)) => {
            // A replica that lost its lease meanwhile must not look like the leader for another round.
            intake.led()?;
            intake.nodes.still_there(node);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        () = hold.superseded() => Ok(StatusCode::NO_CONTENT.into_response()),
        () = intake.leadership.until_lost() => Err(Reject::NotLeader(intake.leadership.holder())),
        () = intake.ending.cancelled() => Err(Reject::NotLeader(None)),
    }
}

fn read_status(bytes: &[u8]) -> Result<NodeStatus, Reject> {
    let status: NodeStatus = serde_json::from_slice(bytes)
        .map_err(|error| Reject::Status(format!("line {}, column {}", error.line(), error.column())))?;
    let bounded = status.uncovered.len() <= MAX_UNCOVERED
        && status.reasons.len() <= MAX_REASONS
        && status.accounting.dropped.len() <= MAX_DROPPED;
    if bounded { Ok(status) } else { Err(Reject::Status("a list is longer than the contract allows".to_owned())) }
}

/// The rule set as JSON, made once for all nodes.
fn encode<R, S, P>(intake: &Intake<R, S, P>, rules: &RuleSet) -> Result<Response, Reject> {
    let mut encoded = intake.encoded.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = match &*encoded {
        Some((hash, bytes)) if *hash == rules.hash => bytes.clone(),
        _ => {
            let bytes: Bytes = serde_json::to_vec(rules).map_err(|error| Reject::Status(error.to_string()))?.into();
            *encoded = Some((rules.hash.clone(), bytes.clone()));
            bytes
        }
    };
    drop(encoded);
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, bytes).into_response())
}
