//! What a program says of itself over plain HTTP: liveness, readiness with reasons, status, metrics.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The port can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {source}")]
pub struct HealthError {
    address: SocketAddr,
    source: io::Error,
}

impl HealthError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        "listen"
    }
}

/// All parts that must be well for the program to be ready; clones speak of the same.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Part>>>);

#[derive(Clone, Debug, Serialize)]
struct Part {
    ready: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// One part's word. The program is ready when all of them are.
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    name: &'static str,
}

impl Health {
    /// A part that is not ready yet.
    pub fn part(&self, name: &'static str) -> Check {
        let check = Check { health: self.clone(), name };
        check.not_ready("not started yet");
        check
    }

    /// Whether every part is ready.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(|part| part.ready)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self) -> BTreeMap<&'static str, Part> {
        self.lock().clone()
    }

    fn say(&self, name: &'static str, part: Part) {
        let mut parts = self.lock();
        let changed = parts.get(name).is_none_or(|old| old.ready != part.ready);
        if changed {
            tracing::info!(part = name, ready = part.ready, reason = part.reason, "readiness changed");
        }
        parts.insert(name, part);
    }
}

impl Check {
    /// The part is well.
    pub fn ready(&self) {
        self.health.say(self.name, Part { ready: true, reason: String::new() });
    }

    /// The part is not well, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.health.say(self.name, Part { ready: false, reason: reason.into() });
    }

    /// The one or the other.
    pub fn set(&self, ready: bool, reason: &str) {
        if ready { self.ready() } else { self.not_ready(reason) }
    }
}

struct About {
    health: Health,
    registry: Registry,
    status: Box<dyn Fn() -> Value + Send + Sync>,
}

/// The routes. `status` is asked at each request; it must hold no secret.
pub fn router(health: Health, registry: Registry, status: impl Fn() -> Value + Send + Sync + 'static) -> Router {
    Router::new()
        .route("/health/liveness", get(|| async { "alive" }))
        .route("/health/readiness", get(readiness))
        .route("/status", get(|State(about): State<Arc<About>>| async move { Json((about.status)()) }))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(About { health, registry, status: Box::new(status) }))
}

/// Serves [`router`] on `address` until `token` is cancelled.
///
/// # Errors
/// [`HealthError`] when the port can't be had.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    registry: Registry,
    status: impl Fn() -> Value + Send + Sync + 'static,
    token: CancellationToken,
) -> Result<(), HealthError> {
    let failed = |source| HealthError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    axum::serve(listener, router(health, registry, status))
        .with_graceful_shutdown(token.cancelled_owned())
        .await
        .map_err(failed)
}

async fn readiness(State(about): State<Arc<About>>) -> Response {
    let parts = about.health.parts();
    let ready = parts.values().all(|part| part.ready);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(serde_json::json!({"ready": ready, "parts": parts}))).into_response()
}

async fn metrics(State(about): State<Arc<About>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &about.registry) {
        Ok(()) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    async fn code(router: &Router, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn ready_means_that_every_part_is() {
        let health = Health::default();
        let (one, two) = (health.part("one"), health.part("two"));
        let router = router(health, Registry::default(), || serde_json::json!({}));
        one.ready();
        assert_eq!(code(&router, "/health/readiness").await, StatusCode::SERVICE_UNAVAILABLE);
        two.ready();
        assert_eq!(code(&router, "/health/readiness").await, StatusCode::OK);
        one.not_ready("gone");
        assert_eq!(code(&router, "/health/readiness").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(code(&router, "/health/liveness").await, StatusCode::OK);
        assert_eq!(code(&router, "/metrics").await, StatusCode::OK);
    }
}
