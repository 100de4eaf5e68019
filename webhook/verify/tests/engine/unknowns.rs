//! Everything that is no answer is unknown: never "unsigned", never a pass.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::json;
use tokio::time::Instant;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{answer::UnknownCause, keychain::Keychain, verdict::Verdict};

use super::{
    bench::{Bench, REPOSITORY, signed_by, soon, verifier},
    double::{Referrers, manifest},
    signer::{BUNDLE, Signer},
};

/// A bench with a signed image whose registry answers some of the questions with a status.
async fn failing(kind: &'static str, status: u16) -> (Bench, Signer, Sha256Digest) {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let status = StatusCode::from_u16(status).unwrap();
    bench.double.hook(move |asked, _| asked.starts_with(kind).then(|| status.into_response()));
    (bench, signer, image)
}

#[tokio::test]
async fn a_status_that_is_no_answer_to_any_question() {
    for kind in ["manifests/", "referrers/", "blobs/"] {
        for (status, cause) in [
            (401, UnknownCause::Unauthorized),
            (403, UnknownCause::Unauthorized),
            (429, UnknownCause::RateLimited),
            (500, UnknownCause::RegistryError),
            (503, UnknownCause::Unreachable),
        ] {
            let (bench, signer, image) = failing(kind, status).await;
            let unknown = bench.unknown(&image, &signed_by(&signer)).await;
            assert_eq!(unknown.cause, cause, "{kind} {status}: {unknown:?}");
            assert!(!unknown.next_step.is_empty());
        }
    }
}

#[tokio::test]
async fn a_registry_that_is_down() {
    let mut bench = Bench::new().await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    bench.verifier = verifier(&[&closed]);
    bench.double.host = closed;
    let image = Sha256Digest::of(b"any");
    bench.unknown_for(&image, &Signer::new(), UnknownCause::Unreachable).await;
    assert_eq!(bench.resolve(":1").await.unwrap_err().cause, UnknownCause::Unreachable);
}

#[tokio::test]
async fn an_image_that_is_not_there_may_be_hidden() {
    let bench = Bench::new().await;
    bench.unknown_for(&Sha256Digest::of(b"any"), &Signer::new(), UnknownCause::ImageNotFound).await;
    assert_eq!(bench.resolve(":nowhere").await.unwrap_err().cause, UnknownCause::ImageNotFound);
}

#[tokio::test]
async fn content_that_is_not_what_its_digest_says() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let (image, other) = (bench.double.image("1", "app"), bench.double.image("2", "other"));
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let swapped = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []});
    let asked_for = format!("manifests/{image}");
    bench.double.hook(move |asked, _| {
        (asked == asked_for)
            .then(|| manifest("application/vnd.oci.image.manifest.v1+json", swapped.to_string().into_bytes()))
    });
    bench.unknown_for(&image, &signer, UnknownCause::Integrity).await;
    // Blobs too.
    bench.double.hook(|asked, _| asked.starts_with("blobs/").then(|| "something else".into_response()));
    bench.double.attach(&other, BUNDLE, &signer.bundle(&other));
    let unknown = bench.unknown(&other, &signed_by(&signer)).await;
    assert!(matches!(unknown.cause, UnknownCause::Integrity), "{unknown:?}");
}

#[tokio::test]
async fn a_digest_header_that_lies() {
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let claimed = Sha256Digest::of(b"another").to_string();
    bench.double.hook(move |asked, _| {
        (asked == "manifests/1")
            .then(|| ([("docker-content-digest", claimed.clone())], "{\"schemaVersion\":2}").into_response())
    });
    assert_eq!(bench.resolve(":1").await.unwrap_err().cause, UnknownCause::Integrity);
    assert!(bench.resolve(&format!(":1@{image}")).await.is_ok(), "a written digest is not asked for");
}

#[tokio::test]
async fn a_document_that_is_index_and_image_at_once() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let both = bench.double.manifest(
        Some("1"),
        &json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [], "layers": [], "config": {}}),
    );
    bench.double.attach(&both, BUNDLE, &signer.bundle(&both));
    bench.unknown_for(&both, &signer, UnknownCause::Integrity).await;
}

#[tokio::test]
async fn a_body_without_end() {
    let endless = || -> Response {
        let chunk = Bytes::from(vec![b' '; 64 * 1024]);
        Body::from_stream(stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()))).into_response()
    };
    for kind in ["manifests/", "referrers/", "blobs/"] {
        let (bench, signer) = (Bench::new().await, Signer::new());
        let image = bench.double.image("1", "app");
        bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
        bench.double.hook(move |asked, _| asked.starts_with(kind).then(endless));
        bench.unknown_for(&image, &signer, UnknownCause::TooLarge).await;
    }
}

#[tokio::test]
async fn more_pages_or_artifacts_than_are_read() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.referrers(Referrers::Endless);
    bench.unknown_for(&image, &signer, UnknownCause::TooLarge).await;
    assert!(bench.double.asked().len() < 30);

    let crowded = bench.double.image("2", "crowded");
    bench.double.referrers(Referrers::Listed);
    for n in 0..60 {
        bench.double.attach(&crowded, BUNDLE, &json!({"n": n}));
    }
    bench.unknown_for(&crowded, &signer, UnknownCause::TooLarge).await;
}

#[tokio::test]
async fn an_address_that_is_not_configured_and_lies_inside() {
    let signer = Signer::new();
    for host in ["127.0.0.1:1", "localhost:1", "169.254.169.254", "0.0.0.0"] {
        let verifier = verifier(&[]);
        let digest = Sha256Digest::of(b"any");
        let image = format!("{host}/{REPOSITORY}@{digest}").parse().unwrap();
        let image = verifier.resolve(&image, &Keychain::default(), soon()).await.unwrap();
        let platforms = zastava_verify::image::Platforms::Any;
        let verdict = verifier.verify(&image, &signed_by(&signer), &platforms, &Keychain::default(), soon()).await;
        let Verdict::Unknown(unknown) = verdict else { panic!("{verdict:?}") };
        assert_eq!(unknown.cause, UnknownCause::Guarded, "{host}: {unknown:?}");
    }
}

#[tokio::test]
async fn a_redirect_and_a_token_realm_that_lead_inside() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.hook(|_, _| {
        Some((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "http://169.254.169.254/latest")]).into_response())
    });
    bench.unknown_for(&image, &signer, UnknownCause::Guarded).await;
    let other = bench.double.image("2", "other");
    bench.double.hook(|_, _| {
        let challenge = "Bearer realm=\"http://169.254.169.254/token\",service=\"x\"";
        Some((StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response())
    });
    bench.unknown_for(&other, &signer, UnknownCause::Guarded).await;
}

#[tokio::test]
async fn a_deadline_that_passes_does_not_end_the_work() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let (policy, resolved) = (signed_by(&signer), bench.resolve(&format!("@{image}")).await.unwrap());
    let verify = |deadline| bench.verifier.verify(&resolved, &policy, &bench.platforms, &bench.keychain, deadline);
    let late = verify(Instant::now()).await;
    assert!(matches!(&late, Verdict::Unknown(unknown) if unknown.cause == UnknownCause::Deadline), "{late:?}");
    assert!(matches!(verify(Instant::now() + Duration::from_secs(20)).await, Verdict::Proven(_)));
    let manifests = bench.double.asked().into_iter().filter(|asked| *asked == format!("manifests/{image}")).count();
    assert_eq!(manifests, 1, "one piece of work answered both");
}
