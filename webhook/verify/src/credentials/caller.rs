//! Requests to the services of a cloud: guarded, bounded, never carried to another host.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use reqwest::{Method, Request, Url};
use serde::de::DeserializeOwned;
use zastava_core::egress::{Client, Guard};

use super::{ExchangeError, ExchangeSettingsError};
use crate::registry::{Requests, What, bounded, unanswered};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 128 * 1024;
/// A service's own name for what is wrong is no longer than this.
const MAX_CODE: usize = 64;

/// What callers are made of: each of them may reach the addresses that its exchange alone has a need for.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    denied: Vec<String>,
    requests: Requests,
}

/// Speaks to the services of one exchange.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    client: Client,
    requests: Requests,
}

/// An answer with a status of success.
pub(super) struct Answered {
    pub(super) host: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Builder {
    pub(crate) fn new(denied: &[String], requests: &Requests) -> Self {
        Self { denied: denied.to_vec(), requests: requests.clone() }
    }

    /// One that may reach these addresses even where they are refused otherwise, such as a link-local metadata server.
    pub(super) fn build<'a>(
        &self,
        reached: impl IntoIterator<Item = &'a Url>,
    ) -> Result<Caller, ExchangeSettingsError> {
        let hosts: Vec<String> = reached.into_iter().filter_map(authority).collect();
        let guard = Guard::new(self.denied.iter().map(String::as_str), hosts.iter().map(String::as_str))?;
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("zastava/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(REQUEST_TIMEOUT)
        };
        let client = guard.client(builder).map_err(|error| ExchangeSettingsError::Client(error.to_string()))?;
        Ok(Caller { client, requests: self.requests.clone() })
    }
}

fn authority(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

impl Caller {
    pub(super) async fn call(&self, request: Request) -> Result<Answered, ExchangeError> {
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let unknown = |why: String| ExchangeError::Unanswered { host: host.clone(), why };
        // Who we are is for that host alone, in whatever header it stands.
        let sent = self.client.send_to_one(request).boxed().await;
        self.requests.count(What::Exchange, &sent);
        let mut response = sent.map_err(|error| unknown(unanswered(&host, error).message))?;
        let status = response.status();
        let body = bounded(&mut response, &host, MAX_ANSWER).await.map_err(|error| unknown(error.message))?;
        if !status.is_success() {
            return Err(ExchangeError::Refused { host, status: status.as_u16(), code: code(&body) });
        }
        Ok(Answered { host, headers: response.headers().clone(), body })
    }

    /// Posts a form.
    pub(super) async fn post(&self, url: &Url, form: &[(&str, &str)]) -> Result<Answered, ExchangeError> {
        let mut request = Request::new(Method::POST, url.clone());
        let mut encoded = url.clone();
        encoded.set_query(None);
        encoded.query_pairs_mut().extend_pairs(form);
        *request.body_mut() = Some(encoded.query().unwrap_or_default().to_owned().into());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        self.call(request).await
    }
}

impl Answered {
    pub(super) fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, ExchangeError> {
        serde_json::from_slice(&self.body).map_err(|_| self.unusable(what))
    }

    pub(super) fn unusable(&self, what: &'static str) -> ExchangeError {
        ExchangeError::Unusable { host: self.host.clone(), what }
    }
}

/// What a service calls the reason of its refusal: `Code` at AWS, `__type` at ECR, `error` at others. Of what it says only
/// letters are kept, for it is printed.
fn code(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let found = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(said) => ["__type", "error", "code"]
            .iter()
            .find_map(|field| said[field].as_str().map(str::to_owned))
            .or_else(|| said["errors"][0]["code"].as_str().map(str::to_owned)),
        Err(_) => super::aws::element(&text, "Code").map(str::to_owned),
    };
    let code: String = found
        .unwrap_or_default()
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'))
        .take(MAX_CODE)
        .collect();
    if code.is_empty() { code } else { format!(" {code}") }
}
