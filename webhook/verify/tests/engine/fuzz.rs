//! Registries that lie: each document of a good verification, mutated and served under its own true digest.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    blob::{Blob, verify},
    requirement::TrustRoot,
    verdict::Verdict,
};

use super::{
    bench::{Bench, signed_by},
    signer::{BUNDLE, Signer},
    sigstore::{SIGNED_AT, Sigstore, bundle, signature_of},
};

/// A round is a conversation: some milliseconds.
const LIMIT: usize = 64 * 1024;

/// Runs one conversation in which the bundle's blob is `bytes`.
async fn with_bundle(signer: &Signer, media_type: &str, bytes: &[u8]) -> Verdict {
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    bench.double.attach_bytes(&image, media_type, bytes);
    verdict(&bench, &image, signer).await
}

async fn verdict(bench: &Bench, image: &Sha256Digest, signer: &Signer) -> Verdict {
    timeout(Duration::from_secs(15), bench.verify(image, &signed_by(signer))).await.unwrap()
}

fn rounds(seeds: &[&[u8]], target: &impl AsyncFn(&[u8])) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Each round opens sockets.
    zastava_fuzz::run_one_in(40, seeds, LIMIT, |input| runtime.block_on(target(input)));
}

#[test]
fn bundles() {
    let signer = Signer::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let image = runtime.block_on(async { Bench::new().await.double.image("1", "app") });
    let good = signer.bundle(&image);
    let other = signer.attestation(&image, "https://slsa.dev/provenance/v1", &json!({"a": 1}));
    let foreign = Signer::new().bundle(&image);
    let seeds: Vec<_> = [&good, &other, &foreign].iter().map(|bundle| bundle.to_string().into_bytes()).collect();
    let seeds: Vec<_> = seeds.iter().map(Vec::as_slice).collect();
    rounds(&seeds, &async |input: &[u8]| {
        let verdict = with_bundle(&signer, BUNDLE, input).await;
        let Verdict::Proven(_) = verdict else {
            assert_ne!(input, seeds[0], "the good seed proves nothing: {verdict:?}");
            return;
        };
        // What was proven says what was signed: only what no signature covers may differ.
        let read: Value = serde_json::from_slice(input).unwrap();
        let (read, good) = (&read["dsseEnvelope"], &good["dsseEnvelope"]);
        assert_eq!((&read["payload"], &read["payloadType"]), (&good["payload"], &good["payloadType"]));
    });
}

#[test]
fn pages_of_referrers() {
    let signer = Signer::new();
    let page = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 9, "artifactType": BUNDLE,
            "digest": format!("sha256:{}", "0".repeat(64))}]});
    rounds(&[page.to_string().as_bytes()], &async |input: &[u8]| {
        let bench = Bench::new().await;
        let image = bench.double.image("1", "app");
        let body = input.to_vec();
        bench.double.hook(move |asked, _| {
            asked
                .starts_with("referrers/")
                .then(|| super::double::manifest("application/vnd.oci.image.index.v1+json", body.clone()))
        });
        assert!(!matches!(verdict(&bench, &image, &signer).await, Verdict::Proven(_)));
    });
}

#[test]
fn keyless_bundles() {
    let sigstore = Sigstore::new();
    let (leaf, image) = (sigstore.workflow(), Sha256Digest::of(b"image"));
    let logged = sigstore.bundle(&leaf, &image);
    let envelope = &logged["dsseEnvelope"];
    let stamp = sigstore.tsa.stamp(&signature_of(envelope), SIGNED_AT);
    let stamped = bundle(&leaf.certificate(), &[sigstore.rekor.v2(envelope, &leaf.verifier())], &[stamp], envelope);
    let policy = sigstore.asks_for_workflow();
    let [requirement] = policy.signatures() else { panic!() };
    for good in [&logged, &stamped] {
        verify(good.to_string().as_bytes(), Blob::Digest(&image), requirement).unwrap();
    }
    // Each round checks some signatures.
    zastava_fuzz::run_one_in(4, &[logged.to_string().as_bytes(), stamped.to_string().as_bytes()], LIMIT, |input| {
        if verify(input, Blob::Digest(&image), requirement).is_err() {
            return;
        }
        let read: Value = serde_json::from_slice(input).unwrap();
        let read = &read["dsseEnvelope"];
        assert_eq!((&read["payload"], &read["payloadType"]), (&envelope["payload"], &envelope["payloadType"]));
    });
}

#[test]
fn trusted_roots() {
    let root = Sigstore::new().root().to_string();
    zastava_fuzz::run(&[root.as_bytes()], LIMIT, |input| {
        let _ = std::str::from_utf8(input).map(TrustRoot::from_json);
    });
}
