//! Who we are, told to a registry, and to nobody else.

use std::sync::{Arc, Mutex};

use axum::{
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use zastava_verify::{answer::UnknownCause, keychain::Keychain, verdict::Verdict};

use super::{
    bench::{Bench, signed_by, soon, verifier},
    double::Double,
    signer::{BUNDLE, Signer},
};

fn keychain(host: &str, user: &str) -> Keychain {
    let config = json!({"auths": {host: {"username": user, "password": "secret"}}});
    Keychain::from_docker_config(config.to_string().as_bytes()).unwrap()
}

fn authorization(headers: &HeaderMap) -> String {
    headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn unauthorized(challenge: &str) -> Response {
    (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge.to_owned())]).into_response()
}

async fn signed() -> (Bench, Signer, zastava_crds::digest::Sha256Digest) {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    (bench, signer, image)
}

#[tokio::test]
async fn a_password_is_sent_where_it_is_asked_for() {
    let (mut bench, signer, image) = signed().await;
    let expected = format!("Basic {}", STANDARD.encode("robot:secret"));
    bench
        .double
        .hook(move |_, headers| (authorization(headers) != expected).then(|| unauthorized("Basic realm=\"registry\"")));
    bench.unknown_for(&image, &signer, UnknownCause::Unauthorized).await;
    let host = bench.double.host.clone();
    bench.keychain = keychain(&host, "intruder");
    bench.unknown_for(&image, &signer, UnknownCause::Unauthorized).await;
    // The first credentials are refused, the next are tried.
    bench.keychain = keychain(&host, "intruder").merged(&keychain(&host, "robot"));
    bench.proven(&image, &signed_by(&signer)).await;
}

#[tokio::test]
async fn a_verdict_had_with_credentials_is_not_shown_to_one_without() {
    let (mut bench, signer, image) = signed().await;
    bench.double.hook(|_, headers| authorization(headers).is_empty().then(|| unauthorized("Basic realm=\"registry\"")));
    bench.keychain = keychain(&bench.double.host, "robot");
    bench.proven(&image, &signed_by(&signer)).await;
    bench.keychain = Keychain::default();
    bench.unknown_for(&image, &signer, UnknownCause::Unauthorized).await;
}

#[tokio::test]
async fn a_token_is_fetched_once_for_its_repository() {
    let (mut bench, signer, image) = signed().await;
    let host = bench.double.host.clone();
    let fetched = Arc::new(Mutex::new(Vec::new()));
    let noted = fetched.clone();
    bench.double.hook(move |asked, headers| {
        if asked == "/token" {
            noted.lock().unwrap().push(authorization(headers));
            return Some(json!({"token": "t0k3n", "expires_in": 300}).to_string().into_response());
        }
        (authorization(headers) != "Bearer t0k3n")
            .then(|| unauthorized(&format!("Bearer realm=\"http://{host}/token\",service=\"registry\"")))
    });
    bench.keychain = keychain(&bench.double.host, "robot");
    bench.proven(&image, &signed_by(&signer)).await;
    assert_eq!(*fetched.lock().unwrap(), [format!("Basic {}", STANDARD.encode("robot:secret"))]);
}

#[tokio::test]
async fn a_host_that_blobs_are_redirected_to_is_told_nothing_and_asks_nothing() {
    let (mut bench, signer, image) = signed().await;
    let elsewhere = Double::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let realm = format!("Bearer realm=\"http://{}/token\"", elsewhere.host);
    elsewhere.hook(move |asked, headers| {
        noted.lock().unwrap().push((asked.to_owned(), authorization(headers)));
        Some(unauthorized(&realm))
    });
    let target = elsewhere.host.clone();
    bench.double.hook(move |asked, headers| {
        if authorization(headers).is_empty() {
            return Some(unauthorized("Basic realm=\"registry\""));
        }
        asked.starts_with("blobs/").then(|| {
            (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, format!("http://{target}/v2/x/{asked}"))]).into_response()
        })
    });
    bench.verifier = verifier(&[&bench.double.host, &elsewhere.host]);
    bench.keychain = keychain(&bench.double.host, "robot");
    let resolved = bench.resolve(&format!("@{image}")).await.unwrap();
    let policy = signed_by(&signer);
    let verdict = bench.verifier.verify(&resolved, &policy, &bench.platforms, &bench.keychain, soon()).await;
    assert!(
        matches!(&verdict, Verdict::Unknown(unknown) if unknown.cause == UnknownCause::Unauthorized),
        "{verdict:?}"
    );
    let seen = seen.lock().unwrap();
    assert!(
        !seen.is_empty() && seen.iter().all(|(asked, shown)| asked.starts_with("blobs/") && shown.is_empty()),
        "{seen:?}"
    );
}
