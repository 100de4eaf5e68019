//! Reading the intake's answers, within bounds.

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use zastava_crds::wire::report::{NotLeader, Problem};

use super::{MAX_RECEIPT_BYTES, Retry, RetryReason};

/// Characters of other people's words in a message of ours.
const MAX_TEXT: usize = 300;
/// Longest pause that the intake may ask for.
const MAX_AFTER: Duration = Duration::from_mins(1);

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// 200 with its body.
    Ok(Bytes),
    /// 204.
    Empty,
    /// Refused for good.
    Refused(Problem),
    /// To be tried again.
    Again(Retry),
    /// The replica does not lead: the leader's address, if it knows one.
    Elsewhere(Option<SocketAddr>),
    /// No answer.
    Broken(Retry),
}

/// Sends a request and reads its answer.
pub async fn of(request: reqwest::RequestBuilder, bound: usize) -> Answer {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Answer::Broken(broken(&error)),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let bound = if status == StatusCode::OK { bound } else { MAX_RECEIPT_BYTES };
    match body(response, bound).await {
        Ok(body) => read(status, &headers, body),
        Err(retry) => Answer::Broken(retry),
    }
}

fn broken(error: &reqwest::Error) -> Retry {
    let reason = if error.is_timeout() { RetryReason::Timeout } else { RetryReason::Unreachable };
    Retry::new(reason, chain(error))
}

async fn body(mut response: reqwest::Response, bound: usize) -> Result<Bytes, Retry> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        if bytes.len() + chunk.len() > bound {
            return Err(Retry::new(RetryReason::Answer, format!("an answer of more than {bound} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn read(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Answer {
    match status {
        StatusCode::OK => Answer::Ok(body),
        StatusCode::NO_CONTENT => Answer::Empty,
        StatusCode::BAD_REQUEST
        | StatusCode::FORBIDDEN
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Answer::Refused(problem(status, &body)),
        // A token that has just run out is renewed by the kubelet.
        StatusCode::UNAUTHORIZED => Answer::Again(retry(RetryReason::Credential, status, headers, &body)),
        StatusCode::SERVICE_UNAVAILABLE => match not_leader(&body) {
            Some(elsewhere) => Answer::Elsewhere(elsewhere.address.and_then(|address| address.parse().ok())),
            None => Answer::Again(retry(RetryReason::Busy, status, headers, &body)),
        },
        _ if status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) =>
        {
            Answer::Again(retry(RetryReason::Busy, status, headers, &body))
        }
        _ => Answer::Again(retry(RetryReason::Answer, status, headers, &body)),
    }
}

/// Every field of [`NotLeader`] is optional: what has a title is a problem instead.
fn not_leader(body: &[u8]) -> Option<NotLeader> {
    if serde_json::from_slice::<Problem>(body).is_ok() {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn problem(status: StatusCode, body: &[u8]) -> Problem {
    let told = serde_json::from_slice::<Problem>(body).ok();
    let title = told.as_ref().map_or_else(|| text(&String::from_utf8_lossy(body)), |told| text(&told.title));
    Problem { title, detail: told.and_then(|told| told.detail).map(|detail| text(&detail)), status: status.as_u16() }
}

fn retry(reason: RetryReason, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Retry {
    let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let Problem { title, detail, .. } = problem(status, body);
    let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
    Retry {
        reason,
        detail: format!("{}: {title}{detail}", status.as_u16()),
        after: after.map(|seconds| Duration::from_secs(seconds).min(MAX_AFTER)),
    }
}

/// The body of a 200.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<Option<T>, Retry> {
    let parsed = serde_json::from_slice(body);
    parsed.map(Some).map_err(|error| Retry::new(RetryReason::Answer, format!("an answer that can't be read: {error}")))
}

/// An error with its causes, bounded.
pub fn chain(error: &dyn Error) -> String {
    let mut whole = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        whole = format!("{whole}: {cause}");
        next = cause.source();
    }
    text(&whole)
}

fn text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
