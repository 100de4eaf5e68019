//! One request to the backend, and its answer within bounds.

use std::{fmt::Debug, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::{Request, Response, Url};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{
    Cause, Unavailable,
    authenticate::{Authenticate, BearerFile, ByConnection},
    chain, line,
    link::Link,
};
use crate::{egress::EgressError, settings::backend::BackendSettings};

/// Longest that one request may take, its answer included: within the patience of whoever waits for an admission.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest pause that the backend may ask for.
const MAX_AFTER: Duration = Duration::from_mins(1);
/// Bytes of a problem.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Settings that no client can be made of.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Not a URL with a host.
    #[error("backend.url: {0}")]
    Url(String),
    /// No certificates in PEM.
    #[error("backend.ca is no PEM of certificates: {0}")]
    Ca(String),
    /// Rules of the settings.
    #[error("{0}")]
    Settings(String),
}

impl BackendError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Url(_) => "backend_url",
            Self::Ca(_) => "backend_ca",
            Self::Settings(_) => "backend_settings",
        }
    }
}

/// For whom the backend is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenancy {
    /// The tenant.
    pub tenant: String,
    /// Its project.
    pub project: String,
    /// The cluster.
    pub cluster: String,
}

/// What came back, if anything did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// 200 with its body.
    Ok(Bytes),
    /// 413: the question is to be split.
    TooLarge(String),
}

/// The backend; clones share its connections.
#[derive(Clone, Debug)]
pub struct Backend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: Url,
    tenancy: Tenancy,
    link: Link,
    authenticate: Box<dyn Authenticate>,
}

impl Backend {
    /// A client that has not connected yet. Files are read at each request, so that they may change, or come later.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn new(settings: &BackendSettings) -> Result<Self, BackendError> {
        if let Some(problem) = settings.problems().first() {
            return Err(BackendError::Settings(problem.to_string()));
        }
        let authenticate: Box<dyn Authenticate> = match settings.token_file.as_str() {
            "" => Box::new(ByConnection),
            file => Box::new(BearerFile(file.into())),
        };
        let url: Url = settings.url.parse().map_err(|error| BackendError::Url(format!("{error}")))?;
        let tenancy = Tenancy {
            tenant: settings.tenant.clone(),
            project: settings.project.clone(),
            cluster: settings.cluster.clone(),
        };
        Ok(Self(Arc::new(Inner { link: Link::new(settings, &url)?, url, tenancy, authenticate })))
    }

    /// For whom it is asked.
    pub fn tenancy(&self) -> &Tenancy {
        &self.0.tenancy
    }

    /// Its address, for people.
    pub fn url(&self) -> &str {
        self.0.url.as_str()
    }

    /// Posts JSON to a path, once; `bound` is the size of an answer that is read.
    ///
    /// # Errors
    /// [`Unavailable`], with the pause that the backend asks for.
    pub async fn post(&self, path: &str, body: Bytes, bound: usize) -> Result<Answered, Unavailable> {
        let until = Instant::now() + TIMEOUT;
        match timeout_at(until, Box::pin(self.post_once(path, body, bound))).await {
            Ok(answer) => answer,
            Err(_) => Err(Unavailable::new(Cause::Timeout, format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn post_once(&self, path: &str, body: Bytes, bound: usize) -> Result<Answered, Unavailable> {
        let client = self.0.link.client().await?;
        let mut sent = self.request(path, body.clone()).await?;
        let headers = sent.headers().clone();
        let mut response = client.send(sent).await.map_err(|error| unreachable(&error))?;
        if response.status() == StatusCode::UNAUTHORIZED
            && self.0.authenticate.renewed(&headers, response.headers()).await
        {
            sent = self.request(path, body).await?;
            response = client.send(sent).await.map_err(|error| unreachable(&error))?;
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let bound = if status == StatusCode::OK { bound } else { MAX_PROBLEM_BYTES };
        let body = whole(response, bound).await?;
        match status {
            StatusCode::OK => Ok(Answered::Ok(body)),
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Answered::TooLarge(problem(status, &body))),
            _ => Err(refusal(status, &headers, &body)),
        }
    }

    async fn request(&self, path: &str, body: Bytes) -> Result<Request, Unavailable> {
        let mut url = self.0.url.clone();
        url.set_path(&format!("{}{path}", self.0.url.path().trim_end_matches('/')));
        let mut request = Request::new(Method::POST, url);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
        request.headers_mut().insert(header::ACCEPT, json);
        *request.body_mut() = Some(body.into());
        self.0.authenticate.authorize(&mut request).await?;
        Ok(request)
    }
}

fn unreachable(error: &EgressError) -> Unavailable {
    let timed_out = matches!(error, EgressError::Http(error) if error.is_timeout());
    Unavailable::new(if timed_out { Cause::Timeout } else { Cause::Unreachable }, chain(error))
}

async fn whole(mut response: Response, bound: usize) -> Result<Bytes, Unavailable> {
    let broke = |error: reqwest::Error| Unavailable::new(Cause::Unreachable, chain(&error));
    let mut bytes = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        if bytes.len() + chunk.len() > bound {
            return Err(Unavailable::new(Cause::Answer, format!("an answer of more than {bound} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Unavailable {
    let cause = match status {
        StatusCode::UNAUTHORIZED => Cause::Credential,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Cause::Busy,
        _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => Cause::Failed,
        _ if status.is_client_error() => Cause::Refused,
        _ => Cause::Answer,
    };
    let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let after = after.map(|seconds| Duration::from_secs(seconds).min(MAX_AFTER));
    Unavailable { cause, detail: problem(status, body), after }
}

/// A problem as one line; every member of it is optional (RFC 7807).
fn problem(status: StatusCode, body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    struct Told {
        title: Option<String>,
        detail: Option<String>,
    }
    let told: Told = serde_json::from_slice(body).unwrap_or_default();
    let title = told.title.as_deref().unwrap_or_else(|| status.canonical_reason().unwrap_or("an answer of its own"));
    let detail = told.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
    line(&format!("{}: {title}{detail}", status.as_u16()))
}
