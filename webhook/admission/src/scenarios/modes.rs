//! Audit, Warn and Enforce; unknown verdicts; dry runs; a replica that can't.

use axum::http::StatusCode;
use serde_json::json;
use zastava_crds::wire::report::AdmissionOutcome;
use zastava_verify::answer::UnknownCause;

use crate::fixtures::{Bench, MISSING, SIGNED, UNSIGNED, pinned, pod, review, signed};

#[tokio::test]
async fn short_of_enforce_nothing_is_refused() {
    let mut bench = Bench::new(&[("audit", signed("Audit")), ("warn", signed("Warn"))]);
    let image = pinned(UNSIGNED, 'b');
    let audit = bench.create("audit", &pod(&image)).await;
    assert!(audit.allowed() && audit.warnings().is_empty());
    assert_eq!(audit.audit("decision"), "would_deny");
    let warn = bench.create("warn", &pod(&image)).await;
    assert!(warn.allowed());
    assert!(warn.warnings()[0].contains("would be refused under Enforce"), "{:?}", warn.warnings());
    assert!(warn.warnings().iter().all(|w| w.chars().count() <= 256));
    let outcomes: Vec<_> = bench.records().into_iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [AdmissionOutcome::WouldDeny, AdmissionOutcome::Warned]);
    assert!(bench.create("warn", &pod(SIGNED)).await.warnings().is_empty(), "a tag is no fault in mode Warn");
}

/// policy-controller validator.go:1266: an error drops out of no verdict.
#[tokio::test]
async fn unknown_is_never_a_pass_and_failure_policy_speaks_for_it() {
    let mut ignore = signed("Enforce");
    ignore["admission"]["failurePolicy"] = json!("Ignore");
    let mut bench = Bench::new(&[("fail", signed("Enforce")), ("ignore", ignore), ("audit", signed("Audit"))]);
    *bench.engine.down.lock().unwrap() = Some(UnknownCause::Unreachable);
    let image = pinned(SIGNED, 'a');
    let fail = bench.create("fail", &pod(&image)).await;
    assert!(!fail.allowed() && fail.message().contains("the registry does not answer"), "{}", fail.message());
    let ignored = bench.create("ignore", &pod(&image)).await;
    assert!(ignored.allowed());
    assert!(ignored.warnings()[0].contains("could not be verified"));
    assert_eq!(ignored.audit("decision"), "admitted_unverified");
    assert!(bench.create("audit", &pod(&image)).await.allowed());
    let outcomes: Vec<_> = bench.records().into_iter().map(|r| r.outcome).collect();
    let unverified = AdmissionOutcome::AdmittedUnverified;
    assert_eq!(outcomes, [AdmissionOutcome::Denied, unverified, unverified]);
}

#[tokio::test]
async fn a_missing_credential_is_named_with_the_value_that_gives_it() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let answer = bench.create("one", &pod(MISSING)).await;
    assert!(answer.message().contains("registries.pullSecrets.namespaces"), "{}", answer.message());
}

#[tokio::test]
async fn a_dry_run_gets_the_whole_answer_and_leaves_no_trace() {
    let mut bench = Bench::new(&[("one", signed("Enforce"))]);
    let mut dry = review("CREATE", &pod(&pinned(UNSIGNED, 'b')), None);
    dry["request"]["dryRun"] = json!(true);
    let answer = bench.review("/validate/one", &dry).await;
    assert!(!answer.allowed() && answer.message().contains("no signature"));
    assert!(bench.records().is_empty());
    assert!(!bench.metric("zastava_admission_decisions_total{result=\"denied\"} 1"));
    let mut dry = review("CREATE", &pod(SIGNED), None);
    dry["request"]["dryRun"] = json!(true);
    assert_eq!(bench.review("/mutate", &dry).await.patch()[0]["value"], pinned(SIGNED, 'a'));
    bench.create("one", &pod(&pinned(UNSIGNED, 'b'))).await;
    assert!(bench.metric("zastava_admission_decisions_total{result=\"denied\"} 1"));
    assert!(bench.metric("zastava_admission_latency_seconds_count{webhook=\"validate\"} 1"));
}

#[tokio::test]
async fn the_strictest_image_and_the_strictest_policy_win() {
    let bench = Bench::new(&[("enforce", signed("Enforce")), ("audit", signed("Audit"))]);
    let mut two = pod(&pinned(SIGNED, 'a'));
    two["spec"]["initContainers"] = json!([{"name": "i", "image": pinned(UNSIGNED, 'b')}]);
    assert!(!bench.create("enforce", &two).await.allowed(), "one good image does not carry a bad one");
    assert!(
        bench.create("audit", &two).await.allowed(),
        "each policy answers for itself, the API server takes all answers"
    );
}

#[tokio::test]
async fn a_policy_out_of_force_refuses_nothing_and_says_so() {
    let mut suspended = signed("Enforce");
    suspended["suspend"] = json!(true);
    let mut unusable = signed("Enforce");
    unusable["admission"]["baseImages"] = json!(["registry.example/base:1"]);
    let runtime = json!({"mode": "Enforce", "runtime": {}});
    let bench = Bench::new(&[("suspended", suspended), ("unusable", unusable), ("runtime", runtime)]);
    for (uid, why) in [
        ("suspended", "spec.suspend"),
        ("unusable", "spec.admission.baseImages[0]"),
        ("runtime", "spec.admission is absent"),
        ("gone", "deleted"),
    ] {
        let answer = bench.create(uid, &pod(UNSIGNED)).await;
        assert!(answer.allowed(), "{uid}");
        assert!(answer.audit("not-asked").contains(why), "{uid}: {answer:?}");
    }
}

#[tokio::test]
async fn a_policy_that_was_never_seen_is_left_to_the_entrys_failure_policy() {
    let bench = Bench::new(&[]);
    let body = serde_json::to_vec(&review("CREATE", &pod(SIGNED), None)).unwrap();
    let (status, body) = bench.post("/validate/never", body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8(body).unwrap().contains("never"));
}

#[tokio::test]
async fn a_policy_whose_key_can_not_be_read_proves_nothing() {
    let mut spec = signed("Enforce");
    spec["admission"]["signatures"][0]["authorities"][0]["key"] =
        json!({"secretRef": {"name": "k", "key": "cosign.pub"}});
    let bench = Bench::new(&[("one", spec)]);
    let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(!answer.allowed() && answer.message().contains("no cluster is asked"), "{}", answer.message());
}

#[tokio::test]
async fn a_replica_without_room_answers_as_unknown() {
    let bench = Bench::with_room_for(0, &[("one", signed("Enforce")), ("audit", signed("Audit"))]);
    let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(!answer.allowed() && answer.message().contains("as much to do as it can"), "{}", answer.message());
    assert!(bench.create("audit", &pod(&pinned(SIGNED, 'a'))).await.allowed());
    assert_eq!(bench.review("/mutate", &review("CREATE", &pod(SIGNED), None)).await.patch(), json!([]));
}

#[tokio::test]
async fn a_policy_that_asks_for_a_digest_alone_asks_no_registry() {
    let bench = Bench::new(&[("one", json!({"mode": "Enforce", "admission": {"digests": "Require"}}))]);
    assert!(bench.create("one", &pod(&pinned(UNSIGNED, 'b'))).await.allowed());
    let tag = bench.create("one", &pod(UNSIGNED)).await;
    assert!(!tag.allowed() && tag.message().contains("digests: Require"), "{}", tag.message());
}
