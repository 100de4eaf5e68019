//! Attestations: of exactly this type, signed by the named authority, about this image, with conditions that hold.

use std::sync::Arc;

use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    requirement::{Inline, PolicyRequirements, RequirementError},
    verdict::RefusalReason,
};

use super::{
    bench::{Bench, policy, release},
    signer::{BUNDLE, Signer, bundle, statement},
};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const OLD_PROVENANCE: &str = "https://slsa.dev/provenance/v0.2";
const VULNERABILITIES: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
const IN_TOTO: &str = "application/vnd.in-toto+json";

fn asking(signers: &[&Signer], threshold: u32, predicate_type: &str, conditions: &[&str]) -> Arc<PolicyRequirements> {
    policy(json!({"signatures": release(signers, threshold),
        "attestations": [{"predicateType": predicate_type, "conditions": conditions}]}))
}

fn built_by(builder: &str) -> Value {
    json!({"buildDefinition": {"buildType": "https://example.org/build@v1"}, "runDetails": {"builder": {"id": builder}}})
}

/// A bench with an image that is signed, and carries attestations besides.
async fn attested(signer: &Signer, attestations: &[Value]) -> (Bench, Sha256Digest) {
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    for attestation in attestations {
        let predicate_type = attestation["type"].as_str().unwrap();
        bench.double.attach(&image, BUNDLE, &signer.attestation(&image, predicate_type, &attestation["predicate"]));
    }
    (bench, image)
}

#[tokio::test]
async fn a_condition_that_holds_is_proof_and_one_that_does_not_is_a_refusal_that_says_so() {
    let signer = Signer::new();
    let attestation = json!({"type": PROVENANCE, "predicate": built_by("https://builder.example.org/v2")});
    let (bench, image) = attested(&signer, &[attestation]).await;
    let by = |builder: &str| {
        let condition = format!("predicate.runDetails.builder.id == '{builder}'");
        asking(&[&signer], 1, PROVENANCE, &["has(predicate.runDetails)", &condition])
    };
    let proof = bench.proven(&image, &by("https://builder.example.org/v2")).await;
    let proven: Vec<_> = proof.evidence().iter().map(|evidence| evidence.requirement.as_str()).collect();
    assert_eq!(proven, ["signatures[release]", "attestations[https://slsa.dev/provenance/v1]"]);
    assert_eq!(proof.evidence()[1].signed_by.len(), 1);
    let refusal = bench.refused(&image, &by("https://elsewhere.example.org")).await;
    assert_eq!(refusal.reason, RefusalReason::ConditionNotMet);
    assert_eq!(refusal.requirement, "attestations[https://slsa.dev/provenance/v1]");
    assert!(refusal.found.starts_with("conditions[1] is false (predicate.runDetails"), "{refusal:?}");
    // Without conditions it is enough that it is there.
    bench.proven(&image, &asking(&[&signer], 1, PROVENANCE, &[])).await;
}

#[tokio::test]
async fn a_condition_that_ends_in_an_error_or_is_no_bool_never_holds() {
    let signer = Signer::new();
    let attestation = json!({"type": PROVENANCE, "predicate": built_by("https://builder.example.org/v2")});
    let (bench, image) = attested(&signer, &[attestation]).await;
    for (condition, why) in [
        ("predicate.runDetails.nowhere", "No such key: nowhere"),
        ("predicate.runDetails", "is a map, and neither true nor false"),
        ("!predicate.runDetails.builder.id.nowhere", "can't be evaluated"),
    ] {
        let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, &[condition])).await;
        assert_eq!(refusal.reason, RefusalReason::ConditionNotMet);
        assert!(refusal.found.contains(why), "{refusal:?}");
    }
}

#[tokio::test]
async fn one_document_must_meet_all_conditions() {
    let signer = Signer::new();
    let half = |a: i64, b: i64| json!({"type": PROVENANCE, "predicate": {"a": a, "b": b}});
    let both = asking(&[&signer], 1, PROVENANCE, &["predicate.a == 1", "predicate.b == 1"]);
    let (bench, image) = attested(&signer, &[half(1, 0), half(0, 1)]).await;
    assert_eq!(bench.refused(&image, &both).await.reason, RefusalReason::ConditionNotMet);
    let (bench, image) = attested(&signer, &[half(1, 0), half(1, 1)]).await;
    bench.proven(&image, &both).await;
}

#[tokio::test]
async fn a_threshold_counts_the_keys_of_one_document() {
    let (one, two) = (Signer::new(), Signer::new());
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    for signer in [&one, &two] {
        bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    }
    let attach = |signer: &Signer, predicate: Value| {
        bench.double.attach(&image, BUNDLE, &signer.attestation(&image, PROVENANCE, &predicate));
    };
    let both = asking(&[&one, &two], 2, PROVENANCE, &["predicate.a > 0"]);
    attach(&one, json!({"a": 1}));
    attach(&two, json!({"a": 2}));
    let refusal = bench.refused(&image, &both).await;
    assert_eq!(refusal.reason, RefusalReason::NoMatchingAttestation);
    assert!(refusal.found.contains("1 of the 2"), "{refusal:?}");
    attach(&two, json!({"a": 1}));
    let mut bench = bench;
    bench.forget();
    bench.proven(&image, &both).await;
}

#[tokio::test]
async fn both_versions_of_statements_legacy_tags_and_children_of_an_index() {
    let signer = Signer::new();
    let holds = asking(&[&signer], 1, OLD_PROVENANCE, &["predicate.builder.id == 'b'"]);
    let predicate = json!({"builder": {"id": "b"}});
    let old = |image: &Sha256Digest| {
        let mut old = statement(image, OLD_PROVENANCE, &predicate);
        old["_type"] = "https://in-toto.io/Statement/v0.1".into();
        signer.seal(IN_TOTO, old.to_string().as_bytes())
    };
    let bench = Bench::new().await.on(&["linux/amd64"]);
    let legacy = bench.double.image("1", "legacy");
    bench.double.sign_legacy(&legacy, &[signer.simple_signing(&legacy)]);
    bench.double.attest_legacy(&legacy, &[(old(&legacy), OLD_PROVENANCE)]);
    bench.proven(&legacy, &holds).await;
    let child = bench.double.image("amd64", "amd64");
    let index = bench.double.index("2", &[("linux/amd64", &child)]);
    bench.double.attach(&index, BUNDLE, &signer.bundle(&index));
    bench.double.attach(&child, BUNDLE, &bundle(&old(&child)));
    let proof = bench.proven(&index, &holds).await;
    assert_eq!(proof.evidence()[1].subject.digest, child);
}

/// CVE-2022-35930 and CVE-2022-35929: an attestation of any type passed.
#[tokio::test]
async fn cve_2022_35930_an_attestation_of_another_type_is_none() {
    let signer = Signer::new();
    let report = json!({"type": VULNERABILITIES, "predicate": built_by("b")});
    let older = json!({"type": OLD_PROVENANCE, "predicate": built_by("b")});
    let longer = json!({"type": format!("{PROVENANCE}.1"), "predicate": built_by("b")});
    let (bench, image) = attested(&signer, &[report, older, longer]).await;
    for conditions in [&[][..], &["true"], &["predicate.runDetails.builder.id == 'b'"]] {
        let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, conditions)).await;
        assert_eq!(refusal.reason, RefusalReason::NoMatchingAttestation, "{refusal:?}");
        assert!(refusal.found.contains("another type"), "{refusal:?}");
    }
    let (bench, image) = attested(&signer, &[]).await;
    let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, &[])).await;
    assert!(
        matches!(refusal.reason, RefusalReason::NoAttestation | RefusalReason::NoMatchingAttestation),
        "a signature is no attestation: {refusal:?}"
    );
}

/// CVE-2022-35929: the type that the publisher writes beside the envelope is no type.
#[tokio::test]
async fn cve_2022_35929_a_type_that_is_only_written_beside_it_is_none() {
    let signer = Signer::new();
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    bench.double.sign_legacy(&image, &[signer.simple_signing(&image)]);
    bench.double.attest_legacy(&image, &[(signer.envelope(&image, VULNERABILITIES, &built_by("b")), PROVENANCE)]);
    let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, &[])).await;
    assert_eq!(refusal.reason, RefusalReason::NoMatchingAttestation);
    assert!(refusal.found.contains("an attestation of another type"), "{refusal:?}");
}

/// kyverno#2739: the signature of an attestation was not looked at.
#[tokio::test]
async fn kyverno_2739_an_attestation_under_another_key_is_none() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let (bench, image) = attested(&signer, &[]).await;
    bench.double.attach(&image, BUNDLE, &stranger.attestation(&image, PROVENANCE, &built_by("b")));
    let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, &["true"])).await;
    assert_eq!(refusal.reason, RefusalReason::NoMatchingAttestation);
    assert!(refusal.found.contains("made by another key"), "{refusal:?}");
    // Nor is one under a key that another entry names.
    let entry = |name: &str, signer: &Signer| json!({"name": name, "authorities": [{"key": {"pem": signer.pem()}}]});
    bench.double.attach(&image, BUNDLE, &stranger.bundle(&image));
    let named = policy(json!({"signatures": [entry("release", &signer), entry("build", &stranger)],
        "attestations": [{"predicateType": PROVENANCE, "signedBy": "release"}]}));
    let mut bench = bench;
    bench.forget();
    assert_eq!(bench.refused(&image, &named).await.reason, RefusalReason::NoMatchingAttestation);
}

/// policy-controller#1971: envelopes that came as referrers were taken without a look at their signature.
#[tokio::test]
async fn policy_controller_1971_an_unsigned_envelope_among_the_referrers_is_none() {
    let signer = Signer::new();
    let (bench, image) = attested(&signer, &[]).await;
    let good = signer.envelope(&image, PROVENANCE, &built_by("b"));
    for signatures in [json!([]), json!([{"sig": ""}]), json!([{"sig": "AAAA"}])] {
        let mut unsigned = good.clone();
        unsigned["signatures"] = signatures;
        bench.double.attach(&image, "application/vnd.dsse.envelope.v1+json", &unsigned);
        bench.double.attach(&image, BUNDLE, &bundle(&unsigned));
    }
    let bare = statement(&image, PROVENANCE, &built_by("b"));
    bench.double.attach(&image, IN_TOTO, &bare);
    bench.double.attach(&image, BUNDLE, &bare);
    let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, &[])).await;
    assert_eq!(refusal.reason, RefusalReason::NoMatchingAttestation, "{refusal:?}");
}

/// CVE-2026-39395: a malformed statement, or one of another type, was accepted.
#[tokio::test]
async fn cve_2026_39395_a_malformed_statement_is_none() {
    let signer = Signer::new();
    let (bench, image) = attested(&signer, &[]).await;
    let good = statement(&image, PROVENANCE, &built_by("b"));
    let without = |field: &str| {
        let mut odd = good.clone();
        odd.as_object_mut().unwrap().remove(field);
        odd.to_string()
    };
    let with = |field: &str, value: Value| {
        let mut odd = good.clone();
        odd[field] = value;
        odd.to_string()
    };
    for odd in [
        without("_type"),
        without("subject"),
        without("predicateType"),
        with("_type", json!("https://in-toto.io/Statement/v2")),
        with("subject", json!([])),
        with("subject", json!("image")),
        with("subject", json!([{"digest": {"sha512": image.hex()}}])),
        with("predicateType", json!([PROVENANCE])),
        with("predicateType", json!(format!(" {PROVENANCE}"))),
        with("predicateType", json!(PROVENANCE.to_uppercase())),
        good.to_string().replace("\"predicateType\"", "\"predicateType\":\"x\",\"predicateType\""),
        "[]".to_owned(),
        "null".to_owned(),
        String::new(),
    ] {
        bench.double.attach(&image, BUNDLE, &bundle(&signer.seal(IN_TOTO, odd.as_bytes())));
    }
    // The right bytes, sealed as something else.
    bench.double.attach(&image, BUNDLE, &bundle(&signer.seal("application/json", good.to_string().as_bytes())));
    let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, &[])).await;
    assert_eq!(refusal.reason, RefusalReason::NoMatchingAttestation, "{refusal:?}");
    // A predicate that is not there, or is there twice, meets no condition.
    for odd in [without("predicate"), good.to_string().replace("\"predicate\":", "\"predicate\":{},\"predicate\":")] {
        let (bench, image) = attested(&signer, &[]).await;
        bench.double.attach(&image, BUNDLE, &bundle(&signer.seal(IN_TOTO, odd.as_bytes())));
        let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, &["true"])).await;
        assert_eq!(refusal.reason, RefusalReason::UnsupportedAttestation, "{refusal:?}");
    }
}

/// kyverno#17130: on a hit of the cache the document was read again, unverified.
#[tokio::test]
async fn kyverno_17130_a_document_that_was_replaced_is_not_looked_at_under_a_warm_proof() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let attestation = json!({"type": PROVENANCE, "predicate": built_by("good")});
    let (bench, image) = attested(&signer, &[attestation]).await;
    let good = asking(&[&signer], 1, PROVENANCE, &["predicate.runDetails.builder.id == 'good'"]);
    bench.proven(&image, &good).await;
    bench.double.asked();
    bench.double.attach(&image, BUNDLE, &stranger.attestation(&image, PROVENANCE, &built_by("evil")));
    bench.proven(&image, &good).await;
    assert!(bench.double.asked().is_empty(), "a warm proof asks nobody");
    // And a policy that would take the replacement finds that nobody it knows has signed it.
    let evil = asking(&[&signer], 1, PROVENANCE, &["predicate.runDetails.builder.id == 'evil'"]);
    let mut bench = bench;
    bench.forget();
    assert_eq!(bench.refused(&image, &evil).await.reason, RefusalReason::ConditionNotMet);
}

/// kyverno#17105: on a hit of the cache the document was missing, and the second container was denied.
#[tokio::test]
async fn kyverno_17105_the_same_image_twice_is_proven_twice() {
    let signer = Signer::new();
    let attestation = json!({"type": PROVENANCE, "predicate": built_by("good")});
    let (bench, image) = attested(&signer, &[attestation]).await;
    let good = asking(&[&signer], 1, PROVENANCE, &["predicate.runDetails.builder.id == 'good'"]);
    let (first, second) = futures::join!(bench.proven(&image, &good), bench.proven(&image, &good));
    let third = bench.proven(&image, &good).await;
    for proof in [first, second, third] {
        assert_eq!(proof.evidence().len(), 2);
    }
}

#[tokio::test]
async fn what_is_too_large_is_said_to_be_and_does_not_pass() {
    let signer = Signer::new();
    let wide = json!({"type": PROVENANCE, "predicate": {"list": vec![1; 20_000]}});
    let (bench, image) = attested(&signer, &[wide]).await;
    let nested = "predicate.list.all(x, predicate.list.all(y, x == y))";
    let refusal = bench.refused(&image, &asking(&[&signer], 1, PROVENANCE, &[nested])).await;
    assert_eq!(refusal.reason, RefusalReason::UnsupportedAttestation);
    assert!(refusal.found.starts_with("unsupported: too large"), "{refusal:?}");
    bench.proven(&image, &asking(&[&signer], 1, PROVENANCE, &["predicate.list.all(x, x == 1)"])).await;
}

#[test]
fn a_condition_that_can_not_be_compiled_names_its_field_and_the_fix() {
    let pem = Signer::new().pem();
    let build = |attestation: Value| {
        let spec = json!({"signatures": [{"name": "release", "authorities": [{"key": {"pem": pem}}]}],
            "attestations": [{"predicateType": "a"}, attestation]});
        let spec = serde_json::from_value(spec).unwrap();
        PolicyRequirements::from_spec("p", "u", 1, &spec, &Inline).map(drop)
    };
    let error = build(json!({"predicateType": "b", "conditions": ["true", "predicat.x"]})).unwrap_err();
    assert!(matches!(error, RequirementError::Condition { .. }));
    assert_eq!(
        error.to_string(),
        "attestations[1].conditions[1] names predicat, which is not known: there are predicate, predicateType, subject, now"
    );
    let nobody = build(json!({"predicateType": "b", "signedBy": "nobody"})).unwrap_err();
    assert!(nobody.to_string().starts_with("attestations[1].signedBy: \"nobody\""), "{nobody}");
}
