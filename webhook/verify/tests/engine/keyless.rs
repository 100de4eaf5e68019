//! Keyless signatures on images: what counts, and whose.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use zastava_verify::{requirement::TrustRoot, verdict::RefusalReason};

use super::{
    bench::Bench,
    signer::{BUNDLE, SIGN, Signer},
    sigstore::{ISSUER, SIGNED_AT, Sigstore, WORKFLOW, bundle, keyless, requirements, signature_of},
};

const ANN: &str = "ann@acme.example";
const BOB: &str = "bob@acme.example";
const ACCOUNTS: &str = "https://accounts.acme.example";

#[tokio::test]
async fn bundles_of_every_version_and_log_count() {
    let sigstore = Sigstore::new();
    let (leaf, bench) = (sigstore.workflow(), Bench::new().await);
    let policy = sigstore.asks_for_workflow();
    let image = |name: &str| bench.double.image(name, name);
    let stamp = |envelope: &Value| sigstore.tsa.stamp(&signature_of(envelope), SIGNED_AT);
    let mut cases = Vec::new();
    for (name, media_type) in [
        ("v0.1", "application/vnd.dev.sigstore.bundle+json;version=0.1"),
        ("v0.2", "application/vnd.dev.sigstore.bundle+json;version=0.2"),
    ] {
        let image = image(name);
        let envelope = leaf.envelope(&image, SIGN);
        let mut entry = sigstore.rekor.dsse(&envelope, &leaf.verifier());
        if name == "v0.1" {
            entry.as_object_mut().unwrap().remove("inclusionProof");
        }
        let chain = leaf.chain(&[&sigstore.fulcio.intermediate.der]);
        let mut document = bundle(&chain, &[entry], &[], &envelope);
        document["mediaType"] = media_type.into();
        cases.push((image, media_type, document));
    }
    let v3 = image("v0.3");
    cases.push((v3.clone(), BUNDLE, sigstore.bundle(&leaf, &v3)));
    let v2_log = image("v0.3-rekor-v2");
    let envelope = leaf.envelope(&v2_log, SIGN);
    let entry = sigstore.rekor.v2(&envelope, &leaf.verifier());
    cases.push((v2_log, BUNDLE, bundle(&leaf.certificate(), &[entry], &[stamp(&envelope)], &envelope)));
    let stamped = image("v0.3-stamped");
    let envelope = leaf.envelope(&stamped, SIGN);
    let mut entry = sigstore.rekor.dsse(&envelope, &leaf.verifier());
    entry.as_object_mut().unwrap().remove("inclusionPromise");
    cases.push((stamped, BUNDLE, bundle(&leaf.certificate(), &[entry], &[stamp(&envelope)], &envelope)));
    for (image, media_type, document) in cases {
        bench.double.attach(&image, media_type, &document);
        let proof = bench.proven(&image, &policy).await;
        let [signer] = proof.evidence()[0].signed_by.as_slice() else { panic!("{proof:?}") };
        assert_eq!(signer, &format!("signatures[release].authorities[0] ({WORKFLOW} of {ISSUER})"));
    }
}

#[tokio::test]
async fn cosigns_legacy_layout_counts() {
    let sigstore = Sigstore::new();
    let (leaf, bench) = (sigstore.workflow(), Bench::new().await);
    let image = bench.double.image("1", "app");
    bench.double.sign_legacy_beside(&image, &[legacy(&sigstore, &leaf, &image)]);
    bench.proven(&image, &sigstore.asks_for_workflow()).await;
    // A layer with the same signature and rubbish beside it does not hide the good one.
    let hidden = bench.double.image("2", "hidden");
    let (payload, mut beside) = legacy(&sigstore, &leaf, &hidden);
    let good = (payload.clone(), beside.clone());
    beside["dev.sigstore.cosign/bundle"] = "{}".into();
    bench.double.sign_legacy_beside(&hidden, &[(payload, beside), good]);
    bench.proven(&hidden, &sigstore.asks_for_workflow()).await;
}

/// A payload and what cosign keeps beside it.
pub fn legacy(
    sigstore: &Sigstore,
    leaf: &super::sigstore::Leaf,
    image: &zastava_crds::digest::Sha256Digest,
) -> (String, Value) {
    let (payload, _) = Signer::new().simple_signing(image);
    let signature = leaf.sign(payload.as_bytes());
    let entry = sigstore.rekor.hashedrekord(payload.as_bytes(), &signature, &leaf.verifier());
    let chain = [&sigstore.fulcio.intermediate.der, &sigstore.fulcio.root.der].map(|der| super::sigstore::pem(der));
    let beside = json!({"dev.cosignproject.cosign/signature": STANDARD.encode(&signature),
        "dev.sigstore.cosign/certificate": leaf.pem(), "dev.sigstore.cosign/chain": chain.concat(),
        "dev.sigstore.cosign/bundle": sigstore.rekor.legacy(&entry)});
    (payload, beside)
}

#[tokio::test]
async fn a_threshold_counts_people() {
    let sigstore = Sigstore::new();
    let mut bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let person = |subject: &str| keyless(&json!({"issuer": ACCOUNTS, "subject": subject}));
    let anybody = keyless(&json!({"issuer": ACCOUNTS, "subjectGlob": "*@acme.example"}));
    let both = sigstore.policy(&json!([person(ANN), anybody]), 2);
    let sign = |bench: &Bench, subject: &str| {
        let leaf = sigstore.fulcio.certify(ACCOUNTS, subject);
        bench.double.attach(&image, BUNDLE, &sigstore.bundle(&leaf, &image));
    };
    // The same person twice, with two certificates, under two authorities.
    sign(&bench, ANN);
    sign(&bench, ANN);
    let refusal = bench.refused(&image, &both).await;
    assert_eq!(refusal.reason, RefusalReason::BelowThreshold);
    assert!(refusal.found.contains("1 of the 2"), "{refusal:?}");
    sign(&bench, BOB);
    bench.forget();
    let proof = bench.proven(&image, &both).await;
    let signed_by = &proof.evidence()[0].signed_by;
    assert_eq!(signed_by.len(), 2, "{signed_by:?}");
    assert!(signed_by[1].ends_with(&format!(": {BOB}")), "a pattern tells whom it matched: {signed_by:?}");
    // A key beside an identity.
    let key = Signer::new();
    let mixed = sigstore.policy(&json!([person(ANN), {"key": {"pem": key.pem()}}]), 2);
    bench.forget();
    bench.refused(&image, &mixed).await;
    bench.double.attach(&image, BUNDLE, &key.bundle(&image));
    bench.forget();
    bench.proven(&image, &mixed).await;
}

#[test]
fn a_verdict_is_bound_to_identities_and_trust_roots() {
    let (one, other) = (Sigstore::new(), Sigstore::new());
    let keys = |sigstore: &Sigstore, identity: Value, threshold: u32| {
        let spare = keyless(&json!({"issuer": ACCOUNTS, "subject": "spare"}));
        sigstore.policy(&json!([keyless(&identity), spare]), threshold).policy().keys().clone()
    };
    let exact = |issuer: &str, subject: &str| json!({"issuer": issuer, "subject": subject});
    let known = [
        keys(&one, exact(ACCOUNTS, ANN), 1),
        keys(&other, exact(ACCOUNTS, ANN), 1),
        keys(&one, exact(ISSUER, ANN), 1),
        keys(&one, exact(ACCOUNTS, BOB), 1),
        keys(&one, json!({"issuer": ACCOUNTS, "subjectGlob": ANN}), 1),
        keys(&one, exact(ACCOUNTS, ANN), 2),
    ];
    let distinct: std::collections::HashSet<_> = known.iter().collect();
    assert_eq!(distinct.len(), known.len());
    assert_eq!(known[0], keys(&one, exact(ACCOUNTS, ANN), 1));
}

#[test]
fn a_trusted_root_that_can_not_be_had_or_used_is_told_with_its_field() {
    let sigstore = Sigstore::new();
    let identity = json!([keyless(&json!({"issuer": ACCOUNTS, "subject": ANN}))]);
    let missing = requirements(None, &identity, 1).unwrap_err();
    assert_eq!(missing.to_string(), "signatures[release].authorities[0].keyless.trustRoot: no such ConfigMap");
    for (list, word) in [("tlogs", "transparency log"), ("certificateAuthorities", "certificate authority")] {
        let mut root = sigstore.root();
        root[list] = json!([]);
        let root = Arc::new(TrustRoot::from_json(&root.to_string()).unwrap());
        let error = requirements(Some(root), &identity, 1).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    // Certificates that are at no time valid together.
    let mut root = sigstore.root();
    root["certificateAuthorities"][0]["validFor"]["start"] = "2999-01-01T00:00:00Z".into();
    assert!(TrustRoot::from_json(&root.to_string()).unwrap_err().to_string().contains("at no time valid together"));
}
