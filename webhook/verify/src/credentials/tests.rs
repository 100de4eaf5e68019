//! Exchanges against doubles of the clouds' services, which are strict about what they are sent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod clouds;
mod held;
mod registry;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};

use super::*;
use crate::registry::Requests;

/// What a service was asked.
struct Asked {
    method: String,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

type Answer = Arc<dyn Fn(&Asked) -> Response + Send + Sync>;

#[derive(Clone)]
struct Double {
    /// `127.0.0.1:port`.
    host: String,
    answer: Answer,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Double {
    async fn start(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let double = Self { host, answer: Arc::new(answer), asked: Arc::default() };
        let router = Router::new().fallback(serve).with_state(double.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        double
    }

    fn url(&self) -> String {
        format!("http://{}/", self.host)
    }

    /// Method and path of everything it was asked.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(State(double): State<Double>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: to_bytes(body, 1 << 20).await.unwrap(),
    };
    double.asked.lock().unwrap().push(format!("{} {}", asked.method, asked.path));
    (double.answer)(&asked)
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The fields of a posted form.
    fn form(&self) -> BTreeMap<String, String> {
        assert_eq!(self.header("content-type"), "application/x-www-form-urlencoded");
        let url = format!("http://x/?{}", std::str::from_utf8(&self.body).unwrap());
        reqwest::Url::parse(&url).unwrap().query_pairs().into_owned().collect()
    }
}

fn fields<const N: usize>(fields: [(&str, &str); N]) -> BTreeMap<String, String> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn environment<const N: usize>(set: [(&str, &str); N]) -> Environment {
    let set = fields(set);
    Environment::of(|name| set.get(name).cloned())
}

/// Nothing on this machine is reached but what an exchange has a need for.
fn callers() -> CallerBuilder {
    CallerBuilder::new(&[], &Requests::default())
}

/// A file with a token, which is there as long as the guard is.
fn token_file(token: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn shown(credential: &Credential) -> String {
    use secrecy::ExposeSecret as _;
    match credential {
        Credential::Basic { username, password } => format!("{username}:{}", password.expose_secret()),
        Credential::IdentityToken(token) => token.expose_secret().to_owned(),
    }
}
