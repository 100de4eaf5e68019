//! HTTP in, HTTP out: bounds first, then the review.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    error_handling::HandleErrorLayer,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionReview},
};
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder};

use super::{
    app::{App, AppError},
    deadline::Patience,
};
use crate::{cluster::Cluster, engine::Engine, metrics::Webhook};

/// A review carries an object and its predecessor, each of at most the 3 MiB that the API server takes, and its own frame.
pub const MAX_BODY: usize = 7 * 1024 * 1024;
/// Connections' requests that are read or worked on at once; more are turned away before their bodies are read.
const MAX_IN_FLIGHT: usize = 1024;

/// Where pods are pinned.
pub const MUTATE: &str = "/mutate";
/// Where a policy's requests go, by its UID.
pub const VALIDATE: &str = "/validate/{uid}";

/// The routes.
pub fn router<E: Engine, C: Cluster>(app: Arc<App<E, C>>) -> Router {
    let turned_away = |_: BoxError| async { (StatusCode::SERVICE_UNAVAILABLE, "too many requests at once") };
    Router::new()
        .route(MUTATE, post(mutate::<E, C>))
        .route(VALIDATE, post(validate::<E, C>))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(turned_away))
                .load_shed()
                .concurrency_limit(MAX_IN_FLIGHT),
        )
        .with_state(app)
}

async fn validate<E: Engine, C: Cluster>(
    State(app): State<Arc<App<E, C>>>,
    Path(uid): Path<String>,
    Query(patience): Query<Patience>,
    body: Bytes,
) -> Response {
    let received = Instant::now();
    let (request, dry_run) = match read(&body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let answer = app.validate(&uid, request, patience.deadline(received)).await;
    if !dry_run {
        app.metrics.answered(Webhook::Validate, received.elapsed());
    }
    respond(answer)
}

async fn mutate<E: Engine, C: Cluster>(
    State(app): State<Arc<App<E, C>>>,
    Query(patience): Query<Patience>,
    body: Bytes,
) -> Response {
    let received = Instant::now();
    let (request, dry_run) = match read(&body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let answer = app.mutate(request, patience.deadline(received)).await;
    if !dry_run {
        app.metrics.answered(Webhook::Mutate, received.elapsed());
    }
    respond(answer)
}

/// A body that is no review has no uid to answer under: a plain 400, and the API server's failurePolicy.
fn read(body: &Bytes) -> Result<(AdmissionRequest<DynamicObject>, bool), Box<Response>> {
    let refused = |why: String| Box::new((StatusCode::BAD_REQUEST, why).into_response());
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(body).map_err(|error| refused(format!("not an AdmissionReview: {error}")))?;
    let request: AdmissionRequest<DynamicObject> =
        review.try_into().map_err(|_| refused("the AdmissionReview has no request".to_owned()))?;
    let dry_run = request.dry_run;
    Ok((request, dry_run))
}

fn respond(answer: Result<AdmissionReview<DynamicObject>, AppError>) -> Response {
    match answer {
        Ok(review) => Json(review).into_response(),
        Err(error) => {
            tracing::warn!(category = error.category(), %error, "no answer");
            (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
        }
    }
}
