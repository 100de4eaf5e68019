//! Kinds of keys, and how many of them must have signed.

use serde_json::json;
use zastava_verify::{
    requirement::{Inline, PolicyRequirements, PublicKey, RequirementError},
    verdict::RefusalReason,
};

use super::{
    bench::{Bench, policy, release, signed_by},
    signer::{BUNDLE, Signer},
};

#[tokio::test]
async fn every_kind_of_key_signs_bundles_and_legacy_payloads() {
    let bench = Bench::new().await;
    for (kind, signer) in Signer::of_every_kind() {
        let bundled = bench.double.image("1", &format!("{kind} bundle"));
        bench.double.attach(&bundled, BUNDLE, &signer.bundle(&bundled));
        let legacy = bench.double.image("2", &format!("{kind} legacy"));
        bench.double.sign_legacy(&legacy, &[signer.simple_signing(&legacy)]);
        for image in [bundled, legacy] {
            let proof = bench.proven(&image, &signed_by(&signer)).await;
            assert_eq!(proof.digest().digest, image, "{kind}");
            let [evidence] = proof.evidence() else { panic!("{kind}: {proof:?}") };
            assert_eq!(evidence.requirement, "signatures[release]");
            assert!(evidence.signed_by[0].contains("key "), "{evidence:?}");
        }
    }
}

#[tokio::test]
async fn a_threshold_counts_distinct_keys() {
    let (one, two) = (Signer::new(), Signer::new());
    let mut bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let both = policy(json!({"signatures": release(&[&one, &two], 2)}));
    bench.double.attach(&image, BUNDLE, &one.bundle(&image));
    bench.double.attach(&image, BUNDLE, &one.bundle(&image));
    bench.double.sign_legacy(&image, &[one.simple_signing(&image)]);
    let refusal = bench.refused(&image, &both).await;
    assert_eq!(refusal.reason, RefusalReason::BelowThreshold);
    assert!(refusal.found.contains("1 of the 2"), "{refusal:?}");
    bench.double.sign_legacy(&image, &[one.simple_signing(&image), two.simple_signing(&image)]);
    bench.forget();
    assert_eq!(bench.proven(&image, &both).await.evidence()[0].signed_by.len(), 2);
}

#[tokio::test]
async fn each_entry_must_be_satisfied_by_its_own_authorities() {
    let (one, two) = (Signer::new(), Signer::new());
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let entry = |name: &str, signer: &Signer| json!({"name": name, "authorities": [{"key": {"pem": signer.pem()}}]});
    let policy = policy(json!({"signatures": [entry("build", &one), entry("release", &two)]}));
    bench.double.attach(&image, BUNDLE, &one.bundle(&image));
    assert_eq!(bench.refused(&image, &policy).await.requirement, "signatures[release]");
}

#[test]
fn what_can_not_be_verified_with_is_refused_as_a_key_or_a_requirement() {
    for bad in [
        "",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        // P-521.
        "-----BEGIN PUBLIC KEY-----\nMIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PUBLIC KEY-----",
    ] {
        assert!(PublicKey::from_pem(bad).is_err(), "{bad}");
    }
    let build = |spec: serde_json::Value| {
        let spec = serde_json::from_value(spec).unwrap();
        PolicyRequirements::from_spec("p", "u", 1, &spec, &Inline)
    };
    let keyed = json!({"key": {"pem": Signer::new().pem()}});
    let twice = json!({"signatures": [{"name": "release", "authorities": [keyed, keyed], "threshold": 2}]});
    assert!(
        matches!(build(twice), Err(RequirementError::Threshold { keys: 1, .. })),
        "one key in two entries is one key"
    );
    let nobody = json!({"sbom": {"required": true, "signedBy": "nobody"}, "signatures": [{"name": "release", "authorities": [keyed]}]});
    assert!(matches!(build(nobody), Err(RequirementError::SignedBy { .. })));
    assert!(matches!(build(json!({})), Ok(None)), "a policy that asks nothing proves nothing");
}
