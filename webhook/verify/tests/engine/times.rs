//! Proofs that end: by the age of a bill of materials, and by conditions that name the time.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use serde_json::json;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    answer::UnknownCause,
    verdict::{RefusalReason, Verdict},
    verifier::VerifierSettings,
};

use super::{
    bench::{Bench, policy, release, signed_by, verifier_with},
    signer::{BUNDLE, CYCLONEDX, SPDX, Signer, cyclonedx},
};

const SCAN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
const START: i64 = 1_800_000_000;

/// A clock that a test sets: `$clock.store(…)` in seconds.
macro_rules! clock {
    ($clock:ident, $now:ident) => {
        static $clock: AtomicI64 = AtomicI64::new(START);
        fn $now() -> Timestamp {
            Timestamp::from_second($clock.load(Ordering::SeqCst)).unwrap()
        }
    };
}

fn at(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap().to_string()
}

/// A bench with a signed image, at a time that the test sets.
async fn bench(signer: &Signer, now: fn() -> Timestamp) -> (Bench, Sha256Digest) {
    let mut bench = Bench::new().await;
    bench.verifier = verifier_with(&[&bench.double.host], VerifierSettings { now, ..VerifierSettings::default() });
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    (bench, image)
}

#[tokio::test]
async fn a_remembered_proof_ends_the_moment_its_bill_of_materials_is_too_old() {
    clock!(CLOCK, now);
    let signer = Signer::new();
    let (bench, image) = bench(&signer, now).await;
    let document = cyclonedx("1.6", &at(START - 600), &[]);
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, CYCLONEDX, &document));
    let aged = policy(json!({"signatures": release(&[&signer], 1), "sbom": {"required": true, "maxAge": "1h"}}));
    let proof = bench.proven(&image, &aged).await;
    assert_eq!(proof.expires_at().map(Timestamp::as_second), Some(START + 3000));
    bench.double.asked();
    CLOCK.store(START + 2999, Ordering::SeqCst);
    bench.proven(&image, &aged).await;
    assert!(bench.double.asked().is_empty(), "a second before, the proof is a warm one");
    CLOCK.store(START + 3000, Ordering::SeqCst);
    let refusal = bench.refused(&image, &aged).await;
    assert_eq!(refusal.reason, RefusalReason::StaleSbom, "{refusal:?}");
    // The oldest of two that count is not the one that ends it, nor is one in SPDX another case.
    let newer = json!({"spdxVersion": "SPDX-2.2", "creationInfo": {"created": at(START + 2000)}});
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, SPDX, &newer));
    let mut bench = bench;
    bench.verifier = verifier_with(&[&bench.double.host], VerifierSettings { now, ..VerifierSettings::default() });
    let proof = bench.proven(&image, &aged).await;
    assert_eq!(proof.expires_at().map(Timestamp::as_second), Some(START + 5600));
}

#[tokio::test]
async fn a_condition_that_names_the_time_is_evaluated_for_every_request() {
    clock!(CLOCK, now);
    let signer = Signer::new();
    let (bench, image) = bench(&signer, now).await;
    let scanned = |seconds: i64| signer.attestation(&image, SCAN, &json!({"finished": at(seconds)}));
    bench.double.attach(&image, BUNDLE, &scanned(START - 600));
    let fresh = policy(json!({"signatures": release(&[&signer], 1), "attestations": [{"predicateType": SCAN,
        "conditions": ["timestamp(predicate.finished) > now - duration('1h')"]}]}));
    bench.proven(&image, &fresh).await;
    bench.double.asked();
    CLOCK.store(START + 2999, Ordering::SeqCst);
    bench.proven(&image, &fresh).await;
    assert!(bench.double.asked().is_empty(), "while it holds, nobody is asked");
    CLOCK.store(START + 3000, Ordering::SeqCst);
    assert_eq!(bench.refused(&image, &fresh).await.reason, RefusalReason::ConditionNotMet);
    // A new scan counts, and its proof ends in its own time.
    bench.double.attach(&image, BUNDLE, &scanned(START + 3000));
    let mut bench = bench;
    bench.verifier = verifier_with(&[&bench.double.host], VerifierSettings { now, ..VerifierSettings::default() });
    bench.proven(&image, &fresh).await;
    CLOCK.store(START + 6599, Ordering::SeqCst);
    bench.proven(&image, &fresh).await;
    CLOCK.store(START + 6600, Ordering::SeqCst);
    assert_eq!(bench.refused(&image, &fresh).await.reason, RefusalReason::ConditionNotMet);
}

#[tokio::test]
async fn without_a_place_to_evaluate_it_is_unknown_and_no_pass() {
    clock!(CLOCK, now);
    CLOCK.store(START, Ordering::SeqCst);
    let signer = Signer::new();
    let (mut bench, image) = bench(&signer, now).await;
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, SCAN, &json!({})));
    let patience = std::time::Duration::from_millis(1);
    let full = VerifierSettings { evaluations: 0, evaluation_patience: patience, now, ..VerifierSettings::default() };
    bench.verifier = verifier_with(&[&bench.double.host], full);
    let asked = policy(json!({"signatures": release(&[&signer], 1),
        "attestations": [{"predicateType": SCAN, "conditions": ["true"]}]}));
    assert_eq!(bench.unknown(&image, &asked).await.cause, UnknownCause::Busy);
}

#[tokio::test]
async fn the_time_of_a_proof_is_that_of_its_turn() {
    clock!(CLOCK, now);
    let signer = Signer::new();
    let (mut bench, image) = bench(&signer, now).await;
    let one_at_once = VerifierSettings { concurrency: 1, now, ..VerifierSettings::default() };
    bench.verifier = verifier_with(&[&bench.double.host], one_at_once);
    // Whichever is first takes ten seconds of the registry's.
    bench.double.hook(|_, _| {
        CLOCK.store(START + 10, Ordering::SeqCst);
        None
    });
    let (one, other) = (signed_by(&signer), signed_by(&signer));
    let (one, other) = futures::join!(bench.proven(&image, &one), bench.proven(&image, &other));
    let mut times = [one.proven_at().as_second(), other.proven_at().as_second()];
    times.sort_unstable();
    assert_eq!(times, [START, START + 10]);
}

#[tokio::test]
async fn a_proof_that_ends_while_it_is_made_is_none() {
    clock!(CLOCK, now);
    let signer = Signer::new();
    let (bench, image) = bench(&signer, now).await;
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, CYCLONEDX, &cyclonedx("1.6", &at(START), &[])));
    bench.double.hook(|_, _| {
        CLOCK.store(START + 3600, Ordering::SeqCst);
        None
    });
    let aged = policy(json!({"signatures": release(&[&signer], 1), "sbom": {"required": true, "maxAge": "1h"}}));
    assert_eq!(bench.unknown(&image, &aged).await.cause, UnknownCause::Busy);
    assert_eq!(bench.refused(&image, &aged).await.reason, RefusalReason::StaleSbom);
}

#[tokio::test]
async fn who_waits_for_anothers_proof_asks_its_conditions_himself() {
    clock!(CLOCK, now);
    let signer = Signer::new();
    let (bench, image) = bench(&signer, now).await;
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, SCAN, &json!({"until": at(START + 10)})));
    let asked = policy(json!({"signatures": release(&[&signer], 1), "attestations": [{"predicateType": SCAN,
        "conditions": ["now < timestamp(predicate.until)"]}]}));
    bench.double.hook(|_, _| {
        CLOCK.store(START + 10, Ordering::SeqCst);
        None
    });
    let verdicts: [_; 2] = futures::join!(bench.verify(&image, &asked), bench.verify(&image, &asked)).into();
    let proven = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Proven(_))).count();
    let unknown = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Unknown(_))).count();
    assert_eq!((proven, unknown), (1, 1), "{verdicts:?}");
    assert_eq!(bench.refused(&image, &asked).await.reason, RefusalReason::ConditionNotMet);
}
