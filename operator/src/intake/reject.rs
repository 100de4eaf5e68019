//! Answers that are no: problems that say what to do (RFC 9457), and who leads.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use zastava_crds::wire::report::{MAX_BATCH_BYTES, NotLeader, Problem};

use super::{
    authenticate::NoCaller,
    batch::BatchUnreadable,
    caller::{Caller, Denial},
};
use crate::{finding::BatchError, leader::Holder, nodes::TooManyNodes};

/// Seconds until a reporter that found no room or no API server comes again.
const RETRY_SECONDS: u16 = 2;

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reject {
    /// Another replica leads, or none does.
    #[error("this replica does not lead")]
    NotLeader(Option<Holder>),
    /// Nobody is known to call.
    #[error(transparent)]
    NoCaller(#[from] NoCaller),
    /// This caller may not ask here.
    #[error("only observers sync")]
    NotAnObserver,
    /// What it says is about somebody else.
    #[error("{what} does not belong to the token")]
    NotYours {
        /// Field of the request.
        what: &'static str,
        /// What it must be.
        expected: String,
    },
    /// The body is too long or broke off.
    #[error("the body is longer than {0} bytes, or broke off")]
    Body(usize),
    /// The body did not come in time.
    #[error("the body did not come in time")]
    Slow,
    /// The body is no batch.
    #[error(transparent)]
    Batch(#[from] BatchUnreadable),
    /// The body is no state of a node.
    #[error("the body is no state of an observer: {0}")]
    Status(String),
    /// Too many requests at once.
    #[error("too many requests at once")]
    Busy,
    /// The batch is not merged yet.
    #[error(transparent)]
    Merge(#[from] BatchError),
    /// The state is not kept.
    #[error(transparent)]
    Nodes(#[from] TooManyNodes),
    /// No such path, or another method.
    #[error("there is nothing here")]
    NoSuchPath,
}

impl Reject {
    /// The closed class of this error, for metrics.
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::NotLeader(_) => "not_leader",
            Self::NoCaller(error) => error.category(),
            Self::NotAnObserver => "not_an_observer",
            Self::NotYours { .. } => "not_yours",
            Self::Body(_) => "body",
            Self::Slow => "slow",
            Self::Batch(error) => error.category(),
            Self::Status(_) => "malformed",
            Self::Busy => "busy",
            Self::Merge(error) => error.category(),
            Self::Nodes(error) => error.category(),
            Self::NoSuchPath => "no_such_path",
        }
    }

    /// That a field must name the caller.
    pub(super) fn not_yours(caller: &Caller, what: &'static str) -> Self {
        Self::NotYours { what, expected: caller.reporter() }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoCaller(NoCaller::Denied(denial)) if denial.is_about_the_token() => StatusCode::UNAUTHORIZED,
            Self::NoCaller(NoCaller::Denied(_)) | Self::NotAnObserver | Self::NotYours { .. } => StatusCode::FORBIDDEN,
            Self::Body(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Batch(_) | Self::Status(_) => StatusCode::BAD_REQUEST,
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::NotLeader(_)
            | Self::NoCaller(NoCaller::Unavailable(_))
            | Self::Busy
            | Self::Merge(_)
            | Self::Nodes(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::NoCaller(NoCaller::Denied(Denial::NoToken)) => {
                "send the projected token of the pod: Authorization: Bearer <token>".to_owned()
            }
            Self::NoCaller(NoCaller::Denied(Denial::WrongAudience)) => {
                "project a token with audience zastava-intake into the pod".to_owned()
            }
            Self::NoCaller(NoCaller::Denied(Denial::NotAuthenticated(_) | Denial::Unbound(_))) => {
                "read the pod's projected token again: the kubelet renews it, and it ends with its pod".to_owned()
            }
            Self::NoCaller(NoCaller::Denied(Denial::Stranger(_))) => {
                "reports are taken from Zastava's own pods only".to_owned()
            }
            Self::NotAnObserver => "send reports to /v1/reports".to_owned(),
            Self::NotYours { expected, .. } => format!("the token speaks for {expected}"),
            Self::Body(bytes) if *bytes == MAX_BATCH_BYTES => "send smaller batches".to_owned(),
            Self::Batch(BatchUnreadable::TooMany(_)) => "send smaller batches".to_owned(),
            Self::Slow | Self::Busy | Self::Merge(_) | Self::NoCaller(NoCaller::Unavailable(_)) => {
                "send the same again".to_owned()
            }
            Self::NoSuchPath => "POST to /v1/reports or /v1/sync".to_owned(),
            _ => return None,
        })
    }
}

impl IntoResponse for Reject {
    fn into_response(self) -> Response {
        let status = self.status();
        if let Self::NotLeader(holder) = self {
            let leader = holder.as_ref().map(|holder| holder.name.clone());
            let body = NotLeader { leader, address: holder.and_then(|holder| holder.address) };
            return (status, Json(body)).into_response();
        }
        let problem = Problem { title: self.to_string(), detail: self.advice(), status: status.as_u16() };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
