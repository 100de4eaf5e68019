//! Everywhere a signature may be, one test a place.

use axum::{
    http::{StatusCode, header::LOCATION},
    response::IntoResponse,
};
use serde_json::json;
use zastava_verify::verdict::RefusalReason;

use super::{
    bench::{Bench, signed_by, verifier},
    double::{Double, Referrers},
    signer::{BUNDLE, CYCLONEDX, Signer},
};

#[tokio::test]
async fn by_the_referrers_api_however_it_names_their_type_or_pages_them() {
    for mode in [Referrers::Listed, Referrers::Mistyped, Referrers::Paged] {
        let (signer, stranger) = (Signer::new(), Signer::new());
        let bench = Bench::new().await;
        let image = bench.double.image("1", "app");
        for by in [&stranger, &stranger, &signer] {
            bench.double.attach(&image, BUNDLE, &by.bundle(&image));
        }
        bench.double.referrers(mode);
        bench.proven(&image, &signed_by(&signer)).await;
        bench.double.asked();
    }
}

#[tokio::test]
async fn by_the_fallback_tag_where_the_api_is_absent_or_its_list_is_empty() {
    for mode in [Referrers::Absent, Referrers::Empty] {
        for artifact_type in [BUNDLE, "application/vnd.oci.empty.v1+json"] {
            let signer = Signer::new();
            let bench = Bench::new().await;
            let image = bench.double.image("1", "app");
            bench.double.attach_by_tag(&image, BUNDLE, &[&signer.bundle(&image)], artifact_type);
            bench.double.referrers(mode);
            bench.proven(&image, &signed_by(&signer)).await;
        }
    }
}

#[tokio::test]
async fn by_a_legacy_tag_beside_bundles_of_others() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &stranger.bundle(&image));
    bench.double.sign_legacy(&image, &[stranger.simple_signing(&image), signer.simple_signing(&image)]);
    bench.proven(&image, &signed_by(&signer)).await;
}

#[tokio::test]
async fn a_registry_that_serves_its_referrers_page_for_people_or_405_has_no_api() {
    for answer in [StatusCode::METHOD_NOT_ALLOWED, StatusCode::OK] {
        let signer = Signer::new();
        let bench = Bench::new().await;
        let image = bench.double.image("1", "app");
        bench.double.sign_legacy(&image, &[signer.simple_signing(&image)]);
        bench.double.hook(move |asked, _| {
            asked.starts_with("referrers/").then(|| (answer, "<html>welcome</html>").into_response())
        });
        bench.proven(&image, &signed_by(&signer)).await;
    }
}

#[tokio::test]
async fn blobs_may_be_on_another_host() {
    let signer = Signer::new();
    let mut bench = Bench::new().await;
    let elsewhere = Double::start().await;
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    // The other host has the same content.
    elsewhere.artifact(None, BUNDLE, &signer.bundle(&image));
    let document = signer.bundle(&image);
    bench.double.attach(&image, BUNDLE, &document);
    elsewhere.blob(document.to_string().as_bytes());
    let host = elsewhere.host.clone();
    bench.double.hook(move |asked, _| {
        asked.starts_with("blobs/").then(|| {
            (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, format!("http://{host}/v2/x/{asked}"))]).into_response()
        })
    });
    bench.verifier = verifier(&[&bench.double.host, &elsewhere.host]);
    bench.proven(&image, &signed_by(&signer)).await;
}

#[tokio::test]
async fn an_image_with_attestations_alone_is_not_signed_and_it_is_said_so() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, CYCLONEDX, &json!({})));
    bench.refused_for(&image, &signer, RefusalReason::NoMatchingSignature, "1 an attestation of another type").await;
    let bare = bench.double.image("2", "bare");
    bench.refused_for(&bare, &signer, RefusalReason::NoSignature, "no signature").await;
}

#[tokio::test]
async fn a_notation_signature_is_seen_and_said_not_to_be_verified() {
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, "application/vnd.cncf.notary.signature", &json!({}));
    bench.refused_for(&image, &Signer::new(), RefusalReason::NoSignature, "1 Notation").await;
}
