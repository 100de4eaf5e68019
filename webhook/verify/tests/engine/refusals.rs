//! What must not count, each after a hole that somebody had.

use serde_json::json;
use zastava_verify::verdict::RefusalReason::{NoMatchingSignature, NoSignature};

use super::{
    bench::{Bench, signed_by},
    signer::{BUNDLE, SIGN, Signer, bundle, statement},
};

const IN_TOTO: &str = "application/vnd.in-toto+json";

#[tokio::test]
async fn another_key() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &stranger.bundle(&image));
    bench.double.sign_legacy(&image, &[stranger.simple_signing(&image)]);
    bench.refused_for(&image, &signer, NoMatchingSignature, "2 made by another key").await;
}

#[tokio::test]
async fn a_signature_of_another_image() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let (image, other) = (bench.double.image("1", "app"), bench.double.image("2", "other"));
    bench.double.attach(&image, BUNDLE, &signer.bundle(&other));
    bench.double.sign_legacy(&image, &[signer.simple_signing(&other)]);
    bench.refused_for(&image, &signer, NoMatchingSignature, "2 made for another image").await;
}

#[tokio::test]
async fn an_envelope_without_a_signature_or_with_two() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let envelope = signer.envelope(&image, SIGN, &json!({}));
    for signatures in [json!([]), json!([{"sig": ""}]), json!([envelope["signatures"][0], envelope["signatures"][0]])] {
        let mut envelope = envelope.clone();
        envelope["signatures"] = signatures;
        bench.double.attach(&image, BUNDLE, &bundle(&envelope));
        bench.double.attach(&image, "application/vnd.dsse.envelope.v1+json", &envelope);
    }
    let refusal = bench.refused(&image, &signed_by(&signer)).await;
    assert_eq!(refusal.reason, NoMatchingSignature);
    assert!(refusal.found.contains("malformed"), "{refusal:?}");
}

#[tokio::test]
async fn a_statement_whose_bytes_or_type_were_changed() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let (image, other) = (bench.double.image("1", "app"), bench.double.image("2", "other"));
    let good = signer.envelope(&image, SIGN, &json!({}));
    // The signature of one envelope under the payload of another.
    let mut transplanted = signer.envelope(&other, SIGN, &json!({}));
    transplanted["payload"] = good["payload"].clone();
    bench.double.attach(&image, BUNDLE, &bundle(&transplanted));
    let mut retyped = good.clone();
    retyped["payloadType"] = "application/json".into();
    bench.double.attach(&image, BUNDLE, &bundle(&retyped));
    bench.refused_for(&image, &signer, NoMatchingSignature, "2 made by another key").await;
}

#[tokio::test]
async fn a_statement_of_another_type_or_shape_under_the_right_key() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let slsa = signer.attestation(&image, "https://slsa.dev/provenance/v1", &json!({}));
    bench.double.attach(&image, BUNDLE, &slsa);
    let text = statement(&image, SIGN, &json!({})).to_string();
    bench.double.attach(&image, BUNDLE, &bundle(&signer.seal("text/plain", text.as_bytes())));
    bench.refused_for(&image, &signer, NoMatchingSignature, "2 an attestation of another type").await;

    let odd = bench.double.image("2", "odd");
    let mut foreign = statement(&odd, SIGN, &json!({}));
    foreign["_type"] = "https://example.org/Statement".into();
    let mut empty = statement(&odd, SIGN, &json!({}));
    empty["subject"] = json!([]);
    for statement in [foreign.to_string(), "not json".to_owned(), "{}".to_owned()] {
        bench.double.attach(&odd, BUNDLE, &bundle(&signer.seal(IN_TOTO, statement.as_bytes())));
    }
    bench.double.attach(&odd, BUNDLE, &bundle(&signer.seal(IN_TOTO, empty.to_string().as_bytes())));
    bench.refused_for(&odd, &signer, NoMatchingSignature, "3 malformed, 1 made for another image").await;
}

#[tokio::test]
async fn a_legacy_payload_that_is_no_image_signature() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let (payload, signature) = signer.simple_signing(&image);
    let other = payload.replace("cosign container image signature", "something else");
    let resigned = {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.encode(signer.sign(other.as_bytes()))
    };
    bench.double.sign_legacy(
        &image,
        &[(other, resigned), (payload.clone(), String::new()), (payload, signature[4..].to_owned())],
    );
    let refusal = bench.refused(&image, &signed_by(&signer)).await;
    assert_eq!(refusal.reason, NoMatchingSignature, "{refusal:?}");
}

#[tokio::test]
async fn more_subjects_or_log_entries_than_anybody_writes() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let mut crowded = statement(&image, SIGN, &json!({}));
    crowded["subject"] = vec![crowded["subject"][0].clone(); 1025].into();
    bench.double.attach(&image, BUNDLE, &bundle(&signer.seal(IN_TOTO, crowded.to_string().as_bytes())));
    let mut logged = signer.bundle(&image);
    logged["verificationMaterial"]["tlogEntries"] = vec![json!({}); 33].into();
    bench.double.attach(&image, BUNDLE, &logged);
    bench.refused_for(&image, &signer, NoMatchingSignature, "2 over the bounds").await;
}

#[tokio::test]
async fn a_key_or_certificate_that_the_bundle_brings_along() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let mut brought = stranger.bundle(&image);
    brought["verificationMaterial"] = json!({"publicKey": {"hint": stranger.pem(), "rawBytes": stranger.pem()}});
    bench.double.attach(&image, BUNDLE, &brought);
    bench.refused_for(&image, &signer, NoMatchingSignature, "1 made by another key").await;
}

#[tokio::test]
async fn a_signature_over_the_bytes_of_a_file() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let blob = json!({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}},
        "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": ""}, "signature": ""}});
    bench.double.attach(&image, BUNDLE, &blob);
    bench.refused_for(&image, &signer, NoMatchingSignature, "of a kind that is not verified").await;
}

#[tokio::test]
async fn what_is_attached_to_another_image_or_typed_as_something_else() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let (image, other) = (bench.double.image("1", "app"), bench.double.image("2", "other"));
    bench.double.attach(&other, BUNDLE, &signer.bundle(&image));
    bench.double.attach(&image, "application/json", &signer.bundle(&image));
    bench.refused_for(&image, &signer, NoSignature, "no signature").await;
}
