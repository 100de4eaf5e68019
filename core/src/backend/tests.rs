//! The client against TLS servers on this machine.

use std::{
    collections::VecDeque,
    fs,
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use http::{HeaderMap, HeaderValue};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use zastava_crds::digest::{DigestKind, ImageDigest, Sha256Digest};

use super::{
    Cause, Unavailable,
    authenticate::{Authenticate as _, BearerFile},
    client::Backend,
    question::Ask as _,
};
use crate::settings::backend::BackendSettings;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Chain and key.
    fn leaf(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }
}

/// Status, headers and body, in order.
type Script = VecDeque<(u16, Vec<(&'static str, String)>, Vec<u8>)>;

/// A backend that answers as scripted, and echoes passes without a script.
struct Server {
    url: String,
    script: Arc<Mutex<Script>>,
    /// Path, authorization and body of each request.
    seen: Arc<Mutex<Vec<(String, String, Value)>>>,
    _handle: Handle<std::net::SocketAddr>,
}

impl Server {
    async fn start(authority: &Authority, clients: Option<&Authority>) -> Self {
        let _ = crate::tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://localhost:{}/zone", listener.local_addr().unwrap().port());
        let script: Arc<Mutex<Script>> = Arc::default();
        let seen: Arc<Mutex<Vec<(String, String, Value)>>> = Arc::default();
        let (answers, log) = (script.clone(), seen.clone());
        let router = Router::new().fallback(async move |request: Request| {
            let path = request.uri().path().to_owned();
            let token = request.headers().get("authorization").map(|token| token.to_str().unwrap().to_owned());
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let passes = serde_json::to_vec(&answer(&body, "pass")).unwrap();
            log.lock().unwrap().push((path, token.unwrap_or_default(), body));
            let next = answers.lock().unwrap().pop_front();
            let (status, headers, body) = next.unwrap_or((200, Vec::new(), passes));
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        });
        let (chain, key) = authority.leaf("localhost");
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(clients.pem.as_bytes()).unwrap()).unwrap();
                config.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().unwrap())
            }
        };
        let config = RustlsConfig::from_config(Arc::new(config.with_single_cert(chain, key).unwrap()));
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, config).unwrap().handle(handle.clone());
        tokio::spawn(server.serve(router.into_make_service()));
        handle.listening().await.unwrap();
        Self { url, script, seen, _handle: handle }
    }

    fn says(&self, status: u16, body: &Value) {
        self.script.lock().unwrap().push_back((status, Vec::new(), serde_json::to_vec(body).unwrap()));
    }

    fn asked(&self) -> Vec<usize> {
        self.seen.lock().unwrap().iter().map(|(_, _, body)| body["images"].as_array().unwrap().len()).collect()
    }
}

/// The same word for every image of a question.
fn answer(question: &Value, verdict: &str) -> Value {
    let verdicts: Vec<_> = question["images"].as_array().unwrap().iter().map(|image| json!({
        "digest": image["digest"], "verdict": verdict, "policyRevision": "1", "issuedAt": "2026-01-01T00:00:00Z",
        "fieldOfALaterVersion": {"x": 1},
    })).collect();
    json!({"schema": "zastava.policy.runtime@v1", "tenantId": question["tenantId"], "projectId": question["projectId"],
        "verdicts": verdicts, "fieldOfALaterVersion": 1})
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn settings(&self, server: &Server, authority: &Authority) -> BackendSettings {
        BackendSettings {
            url: server.url.clone(),
            tenant: "acme".to_owned(),
            project: "shop".to_owned(),
            cluster: "c1".to_owned(),
            ca: authority.pem.clone(),
            token_file: self.write("token", "first\n"),
            ..BackendSettings::default()
        }
    }
}

fn images(count: u32) -> Vec<ImageDigest> {
    let image = |n: u32| ImageDigest { kind: DigestKind::Manifest, digest: Sha256Digest::of(&n.to_be_bytes()) };
    (0..count).map(image).collect()
}

async fn with_token() -> (Server, Files, Backend) {
    let (authority, files) = (Authority::new(), Files::new());
    let server = Server::start(&authority, None).await;
    let backend = Backend::new(&files.settings(&server, &authority)).unwrap();
    (server, files, backend)
}

async fn failure(backend: &Backend) -> Unavailable {
    backend.ask(&images(1)).await.unwrap_err()
}

#[tokio::test]
async fn a_question_says_who_asks_and_what_about() {
    let (server, files, backend) = with_token().await;
    assert_eq!(backend.ask(&images(2)).await.unwrap().len(), 2);
    files.write("token", "second");
    backend.ask(&images(1)).await.unwrap();
    let seen = server.seen.lock().unwrap();
    let (path, token, body) = &seen[0];
    assert_eq!((path.as_str(), token.as_str()), ("/zone/api/v1/policy/runtime", "Bearer first"));
    assert_eq!(
        *body,
        json!({
            "schema": "zastava.policy.runtime@v1", "tenantId": "acme", "projectId": "shop", "cluster": "c1",
            "images": images(2),
        })
    );
    assert_eq!(seen[1].1, "Bearer second", "a token is read anew");
    assert!(!format!("{backend:?}").contains("second"));
}

#[tokio::test]
async fn a_token_that_was_turned_away_is_tried_once_more_if_it_changed() {
    let (server, files, backend) = with_token().await;
    let bearer = BearerFile(files.0.path().join("token"));
    let mut sent = HeaderMap::new();
    sent.insert("authorization", HeaderValue::from_static("Bearer first"));
    assert!(!bearer.renewed(&sent, &HeaderMap::new()).await);
    files.write("token", "second");
    assert!(bearer.renewed(&sent, &HeaderMap::new()).await);
    server.says(401, &json!({"title": "expired"}));
    assert_eq!(failure(&backend).await.cause, Cause::Credential, "the same token is not sent again");
    assert_eq!(server.asked().len(), 1);
    fs::remove_file(files.0.path().join("token")).unwrap();
    assert_eq!(failure(&backend).await.cause, Cause::Credential);
    assert_eq!(server.asked().len(), 1, "without a token nothing is sent");
}

#[tokio::test]
async fn an_answer_for_another_tenant_or_project_is_none() {
    let (server, _files, backend) = with_token().await;
    for (tenant, project) in [("rival", "shop"), ("acme", "other"), ("", "shop"), ("ACME", "shop")] {
        let asked = json!({"tenantId": tenant, "projectId": project, "images": images(1)});
        server.says(200, &answer(&asked, "pass"));
        assert_eq!(failure(&backend).await.cause, Cause::Tenant, "{tenant}/{project}");
    }
}

#[tokio::test]
async fn a_question_that_is_too_large_is_split() {
    let (server, _files, backend) = with_token().await;
    server.says(413, &json!({"title": "too large"}));
    server.says(413, &json!({"title": "too large"}));
    assert_eq!(backend.ask(&images(8)).await.unwrap().len(), 8);
    assert_eq!(server.asked(), [8, 4, 2, 2, 4]);
    server.says(413, &json!({"title": "too large"}));
    assert_eq!(failure(&backend).await.cause, Cause::Refused, "one image can't be split");
}

#[tokio::test]
async fn every_other_answer_is_a_cause_and_none_is_a_word() {
    let (server, _files, backend) = with_token().await;
    let huge = "x".repeat(600 * 1024);
    let good = answer(&json!({"tenantId": "acme", "projectId": "shop", "images": images(1)}), "pass");
    let mut other_schema = good.clone();
    other_schema["schema"] = "zastava.policy.runtime@v2".into();
    let mut not_a_digest = good.clone();
    not_a_digest["verdicts"][0]["digest"] = "sha256:1".into();
    let mut integer = good.clone();
    integer["verdicts"][0]["verdict"] = 0.into();
    let mut padded = good;
    padded["reason"] = huge.into();
    for (status, body, cause) in [
        (200, json!({}), Cause::Answer),
        (200, json!([]), Cause::Answer),
        (200, other_schema, Cause::Answer),
        (200, not_a_digest, Cause::Answer),
        (200, integer, Cause::Answer),
        (200, padded, Cause::Answer),
        (204, json!({}), Cause::Answer),
        (301, json!({}), Cause::Answer),
        (400, json!({"title": "no tenant"}), Cause::Refused),
        (403, json!({}), Cause::Refused),
        (404, json!("not json of a problem"), Cause::Refused),
        (429, json!({}), Cause::Busy),
        (500, json!({}), Cause::Failed),
        (503, json!({}), Cause::Busy),
    ] {
        server.says(status, &body);
        let why = failure(&backend).await;
        assert_eq!(why.cause, cause, "{status} {why}");
    }
    server.says(403, &json!({"title": "no\nsuch tenant", "detail": "acme"}));
    assert_eq!(failure(&backend).await.detail, "403: no such tenant (acme)");
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_bounded() {
    let (server, _files, backend) = with_token().await;
    for (asked, given) in [("7", Some(7)), ("86400", Some(60)), ("soon", None)] {
        let after = vec![("retry-after", asked.to_owned())];
        server.script.lock().unwrap().push_back((429, after, b"{}".to_vec()));
        assert_eq!(failure(&backend).await.after, given.map(Duration::from_secs), "{asked}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_taken_from_its_files_as_they_are_now() {
    let (authority, clients, strangers, files) = (Authority::new(), Authority::new(), Authority::new(), Files::new());
    let server = Server::start(&authority, Some(&clients)).await;
    let identity = |authority: &Authority| {
        let (chain, key) = authority.leaf("zastava");
        (files.write("tls.crt", &chain), files.write("tls.key", &key))
    };
    let (certificate_file, key_file) = identity(&strangers);
    let settings = BackendSettings {
        token_file: String::new(),
        certificate_file,
        key_file,
        ..files.settings(&server, &authority)
    };
    let backend = Backend::new(&settings).unwrap();
    assert_eq!(failure(&backend).await.cause, Cause::Unreachable);
    identity(&clients);
    backend.ask(&images(1)).await.unwrap();
    // Half of a replacement: the certificate before stays.
    let (chain, _) = clients.leaf("zastava");
    files.write("tls.crt", &chain);
    backend.ask(&images(1)).await.unwrap();
    assert_eq!(server.seen.lock().unwrap()[0].1, "", "no token was asked for");
}

#[tokio::test]
async fn only_the_configured_authority_vouches_for_the_backend() {
    let (authority, other, files) = (Authority::new(), Authority::new(), Files::new());
    let server = Server::start(&authority, None).await;
    let backend = Backend::new(&files.settings(&server, &other)).unwrap();
    assert_eq!(failure(&backend).await.cause, Cause::Unreachable);
    assert!(server.asked().is_empty());
    let none = BackendSettings { ca: "not a certificate".to_owned(), ..files.settings(&server, &other) };
    assert_eq!(Backend::new(&none).unwrap_err().category(), "backend_ca");
}
