//! How signatures were got around elsewhere, one test an advisory. Each begins with a signature that counts and changes
//! what the advisory is about, so that nothing else can be why it is refused.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    requirement::{IdentityError, RequirementError, TrustRoot},
    verdict::RefusalReason::{self, NoMatchingSignature},
};

use super::{
    bench::Bench,
    keyless::legacy,
    recorded,
    signer::{BUNDLE, CYCLONEDX, SIGN, Signer},
    sigstore::{
        Authority, ISSUER, Leaf, SIGNED_AT, Sigstore, WORKFLOW, Window, authority, bundle, keyless, requirements,
        signature_of,
    },
};

const V1: &str = "application/vnd.dev.sigstore.bundle+json;version=0.1";

/// A Sigstore, a certificate for the workflow, a registry and an image in it.
struct Scene {
    sigstore: Sigstore,
    leaf: Leaf,
    bench: Bench,
    image: Sha256Digest,
}

impl Scene {
    async fn new() -> Self {
        Self::of(Sigstore::new()).await
    }

    async fn of(sigstore: Sigstore) -> Self {
        let bench = Bench::new().await;
        let image = bench.double.image("1", "app");
        Self { leaf: sigstore.workflow(), sigstore, bench, image }
    }

    fn bundle(&self) -> Value {
        self.sigstore.bundle(&self.leaf, &self.image)
    }

    /// Asserts that a bundle on a fresh image of the same name counts.
    async fn accepts(&self, document: &Value) {
        let bench = self.with(document).await;
        bench.proven(&self.image, &self.sigstore.asks_for_workflow()).await;
    }

    /// Asserts that it does not, and why.
    async fn refuses(&self, document: &Value, found: &str) {
        let bench = self.with(document).await;
        let refusal = bench.refused(&self.image, &self.sigstore.asks_for_workflow()).await;
        assert_eq!(refusal.reason, NoMatchingSignature, "{refusal:?}");
        assert!(refusal.found.contains(found), "{refusal:?}");
    }

    async fn with(&self, document: &Value) -> Bench {
        let bench = Bench::new().await;
        assert_eq!(bench.double.image("1", "app"), self.image);
        bench.double.attach(&self.image, document["mediaType"].as_str().unwrap(), document);
        bench
    }

    /// The same for a layer of cosign's legacy layout.
    async fn refuses_legacy(&self, payload: String, beside: Value, found: &str) {
        let bench = Bench::new().await;
        assert_eq!(bench.double.image("1", "app"), self.image);
        bench.double.sign_legacy_beside(&self.image, &[(payload, beside)]);
        let refusal = bench.refused(&self.image, &self.sigstore.asks_for_workflow()).await;
        assert!(refusal.found.contains(found), "{refusal:?}");
    }

    /// Asserts what becomes of a good signature under another identity in the policy.
    async fn under(&self, identity: &Value) -> Result<(), String> {
        let policy = self.sigstore.policy(&json!([keyless(identity)]), 1);
        match self.with(&self.bundle()).await.verify(&self.image, &policy).await {
            zastava_verify::verdict::Verdict::Proven(_) => Ok(()),
            zastava_verify::verdict::Verdict::Refused(refusal) => Err(refusal.found),
            other @ zastava_verify::verdict::Verdict::Unknown(_) => panic!("{other:?}"),
        }
    }
}

fn entry(document: &mut Value) -> &mut Value {
    &mut document["verificationMaterial"]["tlogEntries"][0]
}

const NOT_ACCEPTED: &str = "1 signed by https://token.actions.githubusercontent.com as \
    https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1, not by an accepted identity";

#[tokio::test]
async fn cve_2025_29778_issuer() {
    let scene = Scene::new().await;
    assert_eq!(scene.under(&json!({"issuer": ISSUER, "subject": WORKFLOW})).await, Ok(()));
    for issuer in [
        "https://accounts.example.com",
        "https://token.actions.githubusercontent.com/",
        "https://token.actions.githubusercontent.co",
        "https://TOKEN.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.*",
    ] {
        let found = scene.under(&json!({"issuer": issuer, "subject": WORKFLOW})).await.unwrap_err();
        assert!(found.contains(NOT_ACCEPTED), "{issuer}: {found}");
        let found = scene.under(&json!({"issuer": issuer, "subjectGlob": "https://github.com/**"})).await.unwrap_err();
        assert!(found.contains(NOT_ACCEPTED), "{issuer}: {found}");
    }
}

#[tokio::test]
async fn cve_2025_29778_subject() {
    let scene = Scene::new().await;
    let (shorter, longer) = (WORKFLOW.strip_suffix('1').unwrap(), format!("{WORKFLOW}1"));
    let glob = WORKFLOW.replace("v1", "*");
    for subject in [shorter, &longer, &glob, &WORKFLOW.to_uppercase(), "https://github.com/evil/app"] {
        let found = scene.under(&json!({"issuer": ISSUER, "subject": subject})).await.unwrap_err();
        assert!(found.contains(NOT_ACCEPTED), "{subject}: {found}");
    }
}

#[tokio::test]
async fn cve_2025_29778_subject_glob() {
    let scene = Scene::new().await;
    let matching = "https://github.com/acme/*/.github/workflows/release.yml@refs/tags/v*";
    assert_eq!(scene.under(&json!({"issuer": ISSUER, "subjectGlob": matching})).await, Ok(()));
    for glob in [
        "https://github.com/acme/*",
        "https://github.com/acme/other/**",
        "github.com/acme/**",
        "https://github.com/**/release.yml",
        "*release*",
    ] {
        let found = scene.under(&json!({"issuer": ISSUER, "subjectGlob": glob})).await.unwrap_err();
        assert!(found.contains(NOT_ACCEPTED), "{glob}: {found}");
    }
}

#[tokio::test]
async fn cve_2025_29778_trust_root() {
    let (scene, other) = (Scene::new().await, Sigstore::new());
    // A stranger's authority vouches for the same identity, with a log and a time of its own.
    let leaf = other.workflow();
    scene.refuses(&other.bundle(&leaf, &scene.image), "log entry that does not hold").await;
    // The same with the log of the trust root.
    let envelope = leaf.envelope(&scene.image, SIGN);
    let logged = scene.sigstore.rekor.dsse(&envelope, &leaf.verifier());
    scene
        .refuses(&bundle(&leaf.certificate(), &[logged], &[], &envelope), "that the trust root does not vouch for")
        .await;
    // And the bundled public-good root knows none of it.
    let public = requirements(None, &json!([{"keyless": {"issuer": ISSUER, "subject": WORKFLOW}}]), 1);
    let bench = scene.with(&scene.bundle()).await;
    let refusal = bench.refused(&scene.image, &std::sync::Arc::new(public.unwrap().unwrap())).await;
    assert_eq!(refusal.reason, NoMatchingSignature);
}

/// A policy that trusts whatever a bundle holds (the review of KServe's verifier).
#[test]
fn a_policy_without_identity() {
    let root = Sigstore::new().trust_root();
    let build = |identity: Value| requirements(Some(root.clone()), &json!([keyless(&identity)]), 1);
    for identity in [
        json!({"issuer": ISSUER}),
        json!({"issuer": ISSUER, "subject": ""}),
        json!({"issuer": ISSUER, "subjectGlob": "**"}),
        json!({"issuer": ISSUER, "subjectGlob": "*/*"}),
        json!({"issuer": ISSUER, "subjectGlob": "https://github.com/{a,b}"}),
        json!({"issuer": ISSUER, "subject": WORKFLOW, "subjectGlob": WORKFLOW}),
        json!({"issuer": "", "subject": WORKFLOW}),
    ] {
        let error = build(identity.clone()).unwrap_err();
        assert!(matches!(error, RequirementError::Identity { .. }), "{identity}: {error}");
        assert!(error.to_string().starts_with("signatures[release].authorities[0].keyless: "), "{error}");
    }
    assert!(IdentityError::Everybody(String::new()).to_string().contains("matches everybody"));
    let nobody = requirements(Some(root), &json!([{}]), 1).unwrap_err();
    assert!(matches!(nobody, RequirementError::Identity { .. }), "{nobody}");
}

#[tokio::test]
async fn cve_2022_23649_a_log_entry_of_another_signature() {
    let scene = Scene::new().await;
    // The same statement by the same certificate, signed twice: one signature is logged, the other is shown.
    let mut transplanted = scene.bundle();
    *entry(&mut transplanted) = entry(&mut scene.bundle()).clone();
    scene.refuses(&transplanted, "with the log entry of another signature").await;
    let (payload, beside) = legacy(&scene.sigstore, &scene.leaf, &scene.image);
    let (_, mut other) = legacy(&scene.sigstore, &scene.leaf, &scene.image);
    other["dev.sigstore.cosign/bundle"] = beside["dev.sigstore.cosign/bundle"].clone();
    scene.refuses_legacy(payload, other, "with the log entry of another signature").await;
}

#[tokio::test]
async fn cve_2022_36056_what_is_in_a_bundle_is_held_together() {
    recorded::cve_2022_36056();
    let scene = Scene::new().await;
    // Another certificate than the one that was logged.
    let mut document = scene.bundle();
    document["verificationMaterial"]["certificate"] = scene.sigstore.workflow().certificate()["certificate"].clone();
    scene.refuses(&document, "not made with the key of its certificate").await;
    // A time that the log did not promise.
    let mut document = scene.bundle();
    entry(&mut document)["integratedTime"] = (SIGNED_AT + 1).to_string().into();
    scene.refuses(&document, "log entry that does not hold").await;
    // A certificate that was over, or had not begun, when the log took the signature in.
    for window in [Window(SIGNED_AT - 700, SIGNED_AT - 100), Window(SIGNED_AT + 100, SIGNED_AT + 700)] {
        let leaf = scene.sigstore.fulcio.intermediate.certify(ISSUER, WORKFLOW, window);
        scene.refuses(&scene.sigstore.bundle(&leaf, &scene.image), "was not valid").await;
    }
}

#[tokio::test]
async fn cve_2026_22703_a_log_entry_of_another_artifact_signature_or_key() {
    let scene = Scene::new().await;
    let envelope = scene.leaf.envelope(&scene.image, SIGN);
    let other_image = scene.bench.double.image("2", "other");
    let other_artifact = scene.leaf.envelope(&other_image, SIGN);
    let other_signature = scene.leaf.envelope(&scene.image, SIGN);
    let stamp = scene.sigstore.tsa.stamp(&signature_of(&envelope), SIGNED_AT);
    let rekor = &scene.sigstore.rekor;
    let (own, stranger) = (scene.leaf.verifier(), scene.sigstore.workflow().verifier());
    let held = |entry: Value| bundle(&scene.leaf.certificate(), &[entry], std::slice::from_ref(&stamp), &envelope);
    scene.accepts(&held(rekor.dsse(&envelope, &own))).await;
    scene.accepts(&held(rekor.v2(&envelope, &own))).await;
    for (envelope, by) in [(&other_artifact, &own), (&other_signature, &own), (&envelope, &stranger)] {
        scene.refuses(&held(rekor.dsse(envelope, by)), "with the log entry of another signature").await;
    }
    for (envelope, by) in [(&other_signature, &own), (&envelope, &stranger)] {
        scene.refuses(&held(rekor.v2(envelope, by)), "with the log entry of another signature").await;
    }
    scene.refuses(&held(rekor.v2(&other_artifact, &own)), "made for another image").await;
    // A hashedrekord of Rekor v1 does not describe an envelope at all.
    let foreign = rekor.hashedrekord(b"anything", &signature_of(&envelope), &own);
    scene.refuses(&held(foreign), "of a kind that is not verified").await;
}

#[tokio::test]
async fn cve_2026_24122_an_issuing_certificate_that_has_expired() {
    // In the trusted root, where the verifier takes it for an anchor.
    let mut sigstore = Sigstore::new();
    sigstore.fulcio = Authority::with_intermediate(Window::PAST);
    let scene = Scene::of(sigstore).await;
    scene.refuses(&scene.bundle(), "was not valid").await;
    // Sent along by the signer, below a root that is valid.
    let mut sigstore = Sigstore::new();
    for (window, valid) in [(Window::LONG, true), (Window::PAST, false)] {
        let issuing = sigstore.fulcio.root.below(authority("sent along", window));
        sigstore.fulcio.trust_root_alone();
        let scene = Scene::of(sigstore).await;
        let leaf = issuing.certify(ISSUER, WORKFLOW, Window::SHORT);
        let envelope = leaf.envelope(&scene.image, SIGN);
        let logged = scene.sigstore.rekor.dsse(&envelope, &leaf.verifier());
        let mut document = bundle(&leaf.chain(&[&issuing.der]), &[logged], &[], &envelope);
        document["mediaType"] = V1.into();
        if valid {
            scene.accepts(&document).await;
        } else {
            scene.refuses(&document, "was not valid").await;
        }
        sigstore = Sigstore::new();
    }
}

#[tokio::test]
async fn cve_2026_39395_a_payload_that_is_malformed_or_of_another_type() {
    let scene = Scene::new().await;
    let sealed = |payload: &str| {
        let envelope = scene.leaf.seal(payload.as_bytes());
        let entry = scene.sigstore.rekor.dsse(&envelope, &scene.leaf.verifier());
        bundle(&scene.leaf.certificate(), &[entry], &[], &envelope)
    };
    let good = super::signer::statement(&scene.image, SIGN, &json!({}));
    scene.accepts(&sealed(&good.to_string())).await;
    for payload in ["", "{}", "not json", "[]", r#"{"_type": "https://in-toto.io/Statement/v1"}"#] {
        scene.refuses(&sealed(payload), "malformed").await;
    }
    let mut foreign = good.clone();
    foreign["_type"] = "https://example.org/Statement".into();
    scene.refuses(&sealed(&foreign.to_string()), "malformed").await;
    let mut other = good;
    other["predicateType"] = "https://cosign.sigstore.dev/attestation/vuln/v1".into();
    scene.refuses(&sealed(&other.to_string()), "an attestation of another type").await;
}

#[tokio::test]
async fn ghsa_fx35_mq7g_6g98_a_key_where_a_certificate_belongs() {
    let scene = Scene::new().await;
    let key = KeyPair::generate().unwrap();
    let (payload, mut beside) = legacy(&scene.sigstore, &scene.leaf, &scene.image);
    for slot in ["certificate", "chain"] {
        let kept = beside.clone();
        beside[format!("dev.sigstore.cosign/{slot}")] = key.public_key_pem().into();
        scene.refuses_legacy(payload.clone(), beside, "malformed").await;
        beside = kept;
    }
    let mut document = scene.bundle();
    document["verificationMaterial"] = json!({"certificate": {"rawBytes": STANDARD.encode(key.subject_public_key_info())},
        "tlogEntries": document["verificationMaterial"]["tlogEntries"]});
    scene.refuses(&document, "malformed").await;
    // Two certificates in the slot of one.
    let (payload, mut beside) = legacy(&scene.sigstore, &scene.leaf, &scene.image);
    beside["dev.sigstore.cosign/certificate"] = (scene.leaf.pem() + &scene.sigstore.workflow().pem()).into();
    scene.refuses_legacy(payload, beside, "malformed").await;
}

#[tokio::test]
async fn cve_2024_45395_more_of_anything_than_anybody_writes() {
    let scene = Scene::new().await;
    let good = scene.bundle();
    let repeated = |count: usize, pointer: &str| {
        let mut document = good.clone();
        let one = document.pointer(pointer).unwrap()[0].clone();
        *document.pointer_mut(pointer).unwrap() = vec![one; count].into();
        document
    };
    scene.accepts(&repeated(32, "/verificationMaterial/tlogEntries")).await;
    scene.refuses(&repeated(33, "/verificationMaterial/tlogEntries"), "over the bounds").await;
    let stamp = scene.sigstore.tsa.stamp(&signature_of(&good["dsseEnvelope"]), SIGNED_AT);
    let stamped = |count: usize| {
        let entries = good["verificationMaterial"]["tlogEntries"].as_array().unwrap();
        bundle(&scene.leaf.certificate(), entries, &vec![stamp.clone(); count], &good["dsseEnvelope"])
    };
    scene.accepts(&stamped(32)).await;
    scene.refuses(&stamped(33), "over the bounds").await;
    let stating = |change: &dyn Fn(&mut Value)| {
        let mut statement = super::signer::statement(&scene.image, SIGN, &json!({}));
        change(&mut statement["subject"]);
        let envelope = scene.leaf.seal(statement.to_string().as_bytes());
        let entry = scene.sigstore.rekor.dsse(&envelope, &scene.leaf.verifier());
        bundle(&scene.leaf.certificate(), &[entry], &[], &envelope)
    };
    let subjects = |count: usize| move |subject: &mut Value| *subject = vec![subject[0].clone(); count].into();
    scene.accepts(&stating(&subjects(1024))).await;
    scene.refuses(&stating(&subjects(1025)), "over the bounds").await;
    let digests = |count: usize| {
        move |subject: &mut Value| {
            let digest = subject[0]["digest"].as_object_mut().unwrap();
            digest.extend((1..count).map(|i| (format!("other{i}"), "00".into())));
        }
    };
    scene.accepts(&stating(&digests(32))).await;
    scene.refuses(&stating(&digests(33)), "over the bounds").await;
}

#[tokio::test]
async fn cve_2026_32280_a_chain_that_is_longer_than_any() {
    let scene = Scene::new().await;
    let spare: &[u8] = &scene.sigstore.fulcio.intermediate.der;
    let chained = |count: usize| {
        let mut document = scene.bundle();
        let entries = document["verificationMaterial"]["tlogEntries"].take();
        document["verificationMaterial"] = scene.leaf.chain(&vec![spare; count]);
        document["verificationMaterial"]["tlogEntries"] = entries;
        document["mediaType"] = V1.into();
        document
    };
    scene.accepts(&chained(10)).await;
    scene.refuses(&chained(11), "over the bounds").await;
    let (payload, mut beside) = legacy(&scene.sigstore, &scene.leaf, &scene.image);
    beside["dev.sigstore.cosign/chain"] = super::sigstore::pem(spare).repeat(11).into();
    scene.refuses_legacy(payload, beside, "over the bounds").await;
}

#[tokio::test]
async fn cve_2022_35929_and_35930_an_attestation_of_another_type() {
    let scene = Scene::new().await;
    let attested = |predicate_type: &str| {
        let envelope = scene.leaf.envelope(&scene.image, predicate_type);
        let entry = scene.sigstore.rekor.dsse(&envelope, &scene.leaf.verifier());
        bundle(&scene.leaf.certificate(), &[entry], &[], &envelope)
    };
    scene.accepts(&attested(SIGN)).await;
    for other in ["https://cosign.sigstore.dev/attestation/vuln/v1", CYCLONEDX, "https://slsa.dev/provenance/v1", ""] {
        scene.refuses(&attested(other), "1 an attestation of another type").await;
    }
}

#[tokio::test]
async fn a_signature_of_another_image_under_the_right_identity() {
    let scene = Scene::new().await;
    let other = scene.bench.double.image("2", "other");
    scene.refuses(&scene.sigstore.bundle(&scene.leaf, &other), "1 made for another image").await;
    let (payload, beside) = legacy(&scene.sigstore, &scene.leaf, &other);
    scene.refuses_legacy(payload, beside, "1 made for another image").await;
}

#[tokio::test]
async fn nothing_that_says_when_or_that_it_was_logged() {
    let scene = Scene::new().await;
    let mut unlogged = scene.bundle();
    unlogged["verificationMaterial"]["tlogEntries"] = json!([]);
    scene.refuses(&unlogged, "without an entry in a transparency log").await;
    // A timestamp alone says when, and not that anybody could have seen it.
    let envelope = &unlogged["dsseEnvelope"];
    let stamp = scene.sigstore.tsa.stamp(&signature_of(envelope), SIGNED_AT);
    let stamped = bundle(&scene.leaf.certificate(), &[], &[stamp], envelope);
    scene.refuses(&stamped, "without an entry in a transparency log").await;
    let mut timeless = scene.bundle();
    entry(&mut timeless).as_object_mut().unwrap().remove("inclusionPromise");
    scene.refuses(&timeless, "without proof of when it was made").await;
    // Stamped outside the certificate's ten minutes, over another signature, or by a stranger.
    let envelope = timeless["dsseEnvelope"].clone();
    let held = |stamp: String| {
        let entries = timeless["verificationMaterial"]["tlogEntries"].as_array().unwrap();
        bundle(&scene.leaf.certificate(), entries, &[stamp], &envelope)
    };
    let signature = signature_of(&envelope);
    scene.accepts(&held(scene.sigstore.tsa.stamp(&signature, SIGNED_AT))).await;
    scene.refuses(&held(scene.sigstore.tsa.stamp(&signature, SIGNED_AT + 3600)), "was not valid").await;
    scene.refuses(&held(scene.sigstore.tsa.stamp(b"another", SIGNED_AT)), "with a timestamp that no authority").await;
    scene.refuses(&held(Sigstore::new().tsa.stamp(&signature, SIGNED_AT)), "with a timestamp that no authority").await;
}

#[tokio::test]
async fn a_certificate_in_no_certificate_log_where_the_trust_root_lists_one() {
    let scene = Scene::new().await;
    let mut root = scene.sigstore.root();
    root["ctlogs"] = json!([Sigstore::new().rekor.trusted()]);
    let root = std::sync::Arc::new(TrustRoot::from_json(&root.to_string()).unwrap());
    let identity = keyless(&json!({"issuer": ISSUER, "subject": WORKFLOW}));
    let policy = requirements(Some(root), &json!([identity]), 1).unwrap().unwrap();
    let refusal = scene.with(&scene.bundle()).await.refused(&scene.image, &std::sync::Arc::new(policy)).await;
    assert!(refusal.found.contains("in no certificate log"), "{refusal:?}");
}

#[tokio::test]
async fn what_certificates_say_can_not_flood_or_forge_a_message() {
    let scene = Scene::new().await;
    let hostile = format!("https://evil.example/\nallowed: true\n{}", "x".repeat(4000));
    let bench =
        scene.with(&scene.sigstore.bundle(&scene.sigstore.fulcio.certify(ISSUER, &hostile), &scene.image)).await;
    for i in 0..5 {
        let leaf = scene.sigstore.fulcio.certify(ISSUER, &format!("https://evil.example/{i}"));
        bench.double.attach(&scene.image, BUNDLE, &scene.sigstore.bundle(&leaf, &scene.image));
    }
    let refusal = bench.refused(&scene.image, &scene.sigstore.asks_for_workflow()).await;
    assert!(!refusal.found.contains('\n') && refusal.found.len() < 1000, "{refusal:?}");
    assert!(refusal.found.contains("4 signed by more that are not accepted"), "{refusal:?}");
    assert!(refusal.next_step.contains("as an identity that the policy names: cosign sign 127.0.0.1"), "{refusal:?}");
}

#[tokio::test]
async fn a_key_whose_signatures_must_be_logged() {
    let scene = Scene::new().await;
    let (key, stranger) = (Signer::new(), Signer::new());
    let policy = scene
        .sigstore
        .policy(&json!([{"key": {"pem": key.pem()}, "transparencyLog": "Require", "trustRoot": {"name": "root"}}]), 1);
    let mut logged = key.bundle(&scene.image);
    let envelope = logged["dsseEnvelope"].clone();
    let entries = |by: &Signer| json!([scene.sigstore.rekor.dsse(&envelope, &by.verifier())]);
    logged["verificationMaterial"]["tlogEntries"] = entries(&key);
    scene.with(&logged).await.proven(&scene.image, &policy).await;
    let refused = async |document: &Value, found: &str| {
        let refusal = scene.with(document).await.refused(&scene.image, &policy).await;
        assert!(refusal.found.contains(found), "{refusal:?}");
    };
    refused(&key.bundle(&scene.image), "without an entry in a transparency log").await;
    let mut foreign = logged.clone();
    foreign["verificationMaterial"]["tlogEntries"] = entries(&stranger);
    refused(&foreign, "with the log entry of another signature").await;
    let mut elsewhere = logged.clone();
    elsewhere["verificationMaterial"]["tlogEntries"] = json!([Sigstore::new().rekor.dsse(&envelope, &key.verifier())]);
    refused(&elsewhere, "log entry that does not hold").await;
    let mut by_stranger = stranger.bundle(&scene.image);
    let envelope = by_stranger["dsseEnvelope"].clone();
    by_stranger["verificationMaterial"]["tlogEntries"] =
        json!([scene.sigstore.rekor.dsse(&envelope, &stranger.verifier())]);
    refused(&by_stranger, "made by another key").await;
    refused(&scene.bundle(), "made by another key").await;
    // Legacy layout: the promise stands beside the payload.
    let (payload, signature) = key.simple_signing(&scene.image);
    let signed = STANDARD.decode(&signature).unwrap();
    let entry = scene.sigstore.rekor.hashedrekord(payload.as_bytes(), &signed, &key.verifier());
    let mut beside = json!({"dev.cosignproject.cosign/signature": signature});
    let bench = Bench::new().await;
    bench.double.image("1", "app");
    bench.double.sign_legacy_beside(&scene.image, &[(payload.clone(), beside.clone())]);
    let refusal = bench.refused(&scene.image, &policy).await;
    assert!(refusal.found.contains("without an entry in a transparency log"), "{refusal:?}");
    beside["dev.sigstore.cosign/bundle"] = scene.sigstore.rekor.legacy(&entry).into();
    let bench = Bench::new().await;
    bench.double.image("1", "app");
    bench.double.sign_legacy_beside(&scene.image, &[(payload, beside)]);
    bench.proven(&scene.image, &policy).await;
}

#[tokio::test]
async fn a_key_that_made_it_is_no_identity() {
    let scene = Scene::new().await;
    let refusal = scene.with(&Signer::new().bundle(&scene.image)).await;
    let refusal = refusal.refused(&scene.image, &scene.sigstore.asks_for_workflow()).await;
    assert_eq!(refusal.reason, RefusalReason::NoMatchingSignature);
    assert!(refusal.found.contains("made with a key, where an identity is asked for"), "{refusal:?}");
}
