//! A stand-in for the backend, written from docs/contracts/policy-runtime.md and strict about it: what breaks the
//! contract is refused and remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{At as _, Error, Result};

const SCHEMA: &str = "zastava.policy.runtime@v1";
const MOST_IMAGES: usize = 100;
/// Words change in a second, so that scenarios need not wait for one to be no longer fresh.
const TTL_SECONDS: u32 = 1;

/// Whom the stand-in answers, and by what token it knows them.
#[derive(Clone, Debug)]
pub struct Client {
    /// Tenant.
    pub tenant: String,
    /// Project.
    pub project: String,
    /// Bearer token.
    pub token: String,
}

/// The stand-in; it ends with this value.
#[derive(Debug)]
pub struct Scanner {
    url: String,
    ca: String,
    desk: Arc<Desk>,
    handle: Handle<SocketAddr>,
}

#[derive(Debug)]
struct Desk {
    client: Client,
    state: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    words: BTreeMap<String, (String, String)>,
    down: bool,
    /// Whom answers are for, instead of whoever asks.
    answers_for: Option<String>,
    asked: BTreeMap<String, usize>,
    turned_away: usize,
    broken: Vec<String>,
}

/// A question; whatever is not in the contract is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    schema: String,
    tenant_id: String,
    project_id: String,
    cluster: String,
    images: Vec<Asked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    kind: String,
    digest: String,
}

impl Scanner {
    /// Listens on `address`, over TLS.
    pub async fn start(address: IpAddr, client: Client) -> Result<Self> {
        // Another server of this process may have installed it before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind((address, 0)).at("the stand-in's port")?;
        listener.set_nonblocking(true).at("the stand-in's port")?;
        let address = listener.local_addr().at("the stand-in's port")?;

        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let ca = authority.self_signed(&key)?.pem();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec![address.ip().to_string()])?.signed_by(&key, &issuer)?;
        let tls = RustlsConfig::from_pem(leaf.pem().into_bytes(), key.serialize_pem().into_bytes());
        let tls = tls.await.at("the stand-in's certificate")?;

        let desk = Arc::new(Desk { client, state: Mutex::default() });
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, tls).at("the stand-in's port")?.handle(handle.clone());
        tokio::spawn(server.serve(Router::new().fallback(answer).with_state(desk.clone()).into_make_service()));
        handle.listening().await.ok_or_else(|| Error::Invalid("the stand-in does not listen".into()))?;
        Ok(Self { url: format!("https://{address}"), ca, desk, handle })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// PEM of the authority that vouches for it.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// What it says of an image from now on.
    pub fn says(&self, digest: &str, verdict: &str, reason: &str) {
        self.state().words.insert(digest.to_owned(), (verdict.to_owned(), reason.to_owned()));
    }

    /// Answers 503, or does its work again.
    pub fn down(&self, down: bool) {
        self.state().down = down;
    }

    /// Answers for this tenant, whoever asks; none: for the one that asks.
    pub fn answers_for(&self, tenant: Option<&str>) {
        self.state().answers_for = tenant.map(str::to_owned);
    }

    /// How often it was asked about an image.
    pub fn asked(&self, digest: &str) -> usize {
        self.state().asked.get(digest).copied().unwrap_or_default()
    }

    /// How many questions came while it was down.
    pub fn turned_away(&self) -> usize {
        self.state().turned_away
    }

    /// Every breach of the contract that it saw.
    pub fn broken(&self) -> Vec<String> {
        self.state().broken.clone()
    }

    fn state(&self) -> MutexGuard<'_, Standing> {
        self.desk.state()
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, Standing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(desk): State<Arc<Desk>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    match desk.reads(&method, &uri, &headers, &body) {
        Err((status, why)) => {
            desk.state().broken.push(why.clone());
            problem(status, &why)
        }
        Ok(question) => desk.answers(&question),
    }
}

fn problem(status: StatusCode, title: &str) -> Response {
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16()}).to_string();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}

impl Desk {
    fn reads(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> std::result::Result<Question, (StatusCode, String)> {
        let bad = |why: String| (StatusCode::BAD_REQUEST, why);
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if method != Method::POST || uri.path() != "/api/v1/policy/runtime" || uri.query().is_some() {
            return Err((StatusCode::NOT_FOUND, format!("{method} {uri} is not in the contract")));
        }
        if header(header::AUTHORIZATION) != format!("Bearer {}", self.client.token) {
            return Err((StatusCode::UNAUTHORIZED, "another token than was given out".to_owned()));
        }
        if header(header::CONTENT_TYPE) != "application/json" {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("a body of {:?}", header(header::CONTENT_TYPE))));
        }
        let question: Question = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
        if question.schema != SCHEMA {
            return Err(bad(format!("schema {:?}", question.schema)));
        }
        if question.tenant_id != self.client.tenant || question.project_id != self.client.project {
            let why = format!("tenant {:?}, project {:?}", question.tenant_id, question.project_id);
            return Err((StatusCode::FORBIDDEN, why));
        }
        if question.cluster.is_empty() {
            return Err(bad("no cluster".to_owned()));
        }
        let images = &question.images;
        if images.is_empty() {
            return Err(bad("no image".to_owned()));
        }
        if images.len() > MOST_IMAGES {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("{} images", images.len())));
        }
        for Asked { kind, digest } in images {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            let is_hex = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hex || !["index", "manifest", "config", "unresolved"].contains(&kind.as_str()) {
                return Err(bad(format!("image {kind:?} {digest:?}")));
            }
        }
        let digests: BTreeSet<_> = images.iter().map(|image| &image.digest).collect();
        if digests.len() != images.len() || !images.is_sorted_by_key(|image| (rank(&image.kind), &image.digest)) {
            return Err(bad("images that are not sorted, each digest once".to_owned()));
        }
        Ok(question)
    }

    fn answers(&self, question: &Question) -> Response {
        let mut state = self.state();
        if state.down {
            state.turned_away += 1;
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "down for a while");
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            return response;
        }
        let tenant = state.answers_for.clone().unwrap_or_else(|| question.tenant_id.clone());
        let now = jiff::Timestamp::now();
        let mut verdicts: Vec<Value> = Vec::new();
        for image in &question.images {
            *state.asked.entry(image.digest.clone()).or_default() += 1;
            // Of an image that it does not know it says nothing, which the contract allows.
            let Some((verdict, reason)) = state.words.get(&image.digest) else { continue };
            verdicts.push(json!({
                "digest": image.digest, "verdict": verdict, "reason": reason, "policyRevision": "e2e-1",
                "link": format!("https://scanner.test/{}", &image.digest[7..19]), "issuedAt": now,
                "ttlSeconds": TTL_SECONDS, "ofALaterVersion": {"ignored": true},
            }));
        }
        let answer = json!({
            "schema": SCHEMA, "tenantId": tenant, "projectId": question.project_id, "verdicts": verdicts,
        });
        ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
    }
}

/// Kinds in the contract's order.
fn rank(kind: &str) -> usize {
    ["index", "manifest", "config", "unresolved"].iter().position(|known| *known == kind).unwrap_or(usize::MAX)
}
