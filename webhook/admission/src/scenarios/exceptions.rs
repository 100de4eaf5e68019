//! Exceptions act within their own policy, and end.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use zastava_crds::wire::{event::Severity, report::AdmissionOutcome};

use crate::fixtures::{Bench, SIGNED, TENANT, UNSIGNED, digest, of_kind, pinned, pod, review, signed};

fn excepting(expires: &str, matching: &Value) -> Value {
    let mut spec = signed("Enforce");
    spec["exceptions"] = json!([{"name": "known", "reason": "agreed", "expires": expires, "match": matching}]);
    spec
}

const FUTURE: &str = "2999-01-01T00:00:00Z";
const PAST: &str = "2020-01-01T00:00:00Z";

#[tokio::test]
async fn an_exception_covers_what_it_names_and_its_use_is_recorded() {
    let image = pinned(UNSIGNED, 'b');
    for (matching, covers) in [
        (json!({"images": ["registry.example/prod/*"]}), true),
        (json!({"images": ["registry.example/*"]}), false),
        (json!({"images": [digest('b')]}), true),
        (json!({"images": [digest('c')]}), false),
        (json!({"namespaces": ["default"]}), true),
        (json!({"namespaces": ["other"]}), false),
        (json!({"namespaces": ["default"], "images": ["registry.example/other"]}), false),
        (json!({"podSelector": {"matchLabels": {"a": "b"}}}), false),
    ] {
        let bench = Bench::new(&[("one", excepting(FUTURE, &matching))]);
        let answer = bench.create("one", &pod(&image)).await;
        assert_eq!(answer.allowed(), covers, "{matching}");
        if covers {
            assert_eq!(answer.audit("decision"), "excepted");
            assert!(answer.audit("exceptions").contains("known"));
        }
    }
}

#[tokio::test]
async fn a_digest_that_a_template_does_not_write_is_excepted_once_it_is_resolved() {
    let bench = Bench::new(&[("one", excepting(FUTURE, &json!({"images": [digest('b')]})))]);
    let object = crate::fixtures::of_kind("Deployment", &json!({"containers": [{"name": "app", "image": UNSIGNED}]}));
    assert!(bench.create("one", &object).await.allowed());
}

/// The kubelet resolves the tag again, and may find another digest than the one that is excepted.
#[tokio::test]
async fn a_digest_that_a_pod_does_not_write_is_not_excepted_under_enforce() {
    let unverified = |mode: &str, failure_policy: &str| {
        let mut spec = excepting(FUTURE, &json!({"images": [digest('a'), digest('b')]}));
        spec["mode"] = json!(mode);
        spec["admission"]["failurePolicy"] = json!(failure_policy);
        spec
    };
    let down_after_resolving = |bench: &Bench| bench.engine.unreadable.lock().unwrap().insert(digest('b'));
    for unknown in [false, true] {
        let bench = Bench::new(&[("one", unverified("Enforce", "Fail")), ("audit", unverified("Audit", "Ignore"))]);
        if unknown {
            down_after_resolving(&bench);
        }
        let answer = bench.create("one", &pod(UNSIGNED)).await;
        assert!(!answer.allowed(), "unknown: {unknown}: {answer:?}");
        for part in ["not pinned", "exception known", "name@sha256:", &"b".repeat(64)] {
            assert!(answer.message().contains(part), "{part} in {}", answer.message());
        }
        assert!(bench.create("one", &pod(&pinned(UNSIGNED, 'b'))).await.allowed(), "pinned, it is excepted");
        assert_eq!(bench.create("audit", &pod(UNSIGNED)).await.audit("decision"), "excepted", "Audit pins nothing");
    }
    let bench = Bench::new(&[("one", unverified("Enforce", "Ignore"))]);
    down_after_resolving(&bench);
    let answer = bench.create("one", &pod(UNSIGNED)).await;
    assert_eq!(
        answer.audit("decision"),
        "admitted_unverified",
        "what the policy says of an unknown verdict: {answer:?}"
    );
}

#[tokio::test]
async fn what_is_excepted_by_name_needs_no_credentials() {
    let bench = Bench::new(&[
        ("excepting", excepting(FUTURE, &json!({"images": ["registry.example/prod/*"]}))),
        ("other", signed("Enforce")),
    ]);
    let mut object = pod(&pinned(SIGNED, 'a'));
    object["metadata"]["namespace"] = json!(TENANT);
    object["spec"]["imagePullSecrets"] = json!([{"name": "a"}]);
    for (policy, reads) in [("excepting", 0), ("other", 2)] {
        assert!(bench.create(policy, &object).await.allowed());
        assert_eq!(bench.cluster.asked.swap(0, Ordering::SeqCst), reads, "{policy}: service account and Secret");
    }
}

#[tokio::test]
async fn each_use_is_recorded_and_counted_with_its_reason_and_its_end() {
    let mut bench = Bench::new(&[("one", excepting(FUTURE, &json!({"namespaces": ["default"]})))]);
    let image = pinned(UNSIGNED, 'b');
    let mut dry = review("CREATE", &pod(&image), None);
    dry["request"]["dryRun"] = json!(true);
    assert_eq!(bench.review("/validate/one", &dry).await.audit("decision"), "excepted");
    assert!(bench.records().is_empty(), "a dry run leaves no trace");
    let template = of_kind("Deployment", &json!({"containers": [{"name": "app", "image": image}]}));
    assert_eq!(bench.create("one", &template).await.audit("decision"), "excepted");
    assert!(bench.records().is_empty(), "its pods are the ones to record");
    bench.create("one", &pod(&image)).await;
    bench.create("one", &pod(&image)).await;
    let records = bench.records();
    assert_eq!(records.len(), 2);
    let record = &records[0];
    assert_eq!((record.outcome, record.severity), (AdmissionOutcome::Excepted, Severity::Info));
    assert_eq!(record.requirement, "exceptions[known]");
    assert_eq!(record.message, "let in by exception known until 2999-01-01T00:00:00Z (agreed)");
    assert_eq!(record.digest.as_ref().map(|d| &d.digest), Some(&digest('b')));
    assert!(bench.metric("zastava_admission_exceptions_total{policy=\"policy-one\"} 2"));
}

/// GO-2024-3230, CVE-2026-84200: exceptions never combine to the laxer, neither within a policy nor across policies.
#[tokio::test]
async fn two_exceptions_that_cover_half_each_cover_nothing() {
    let half = |name: &str, matching: Value| json!({"name": name, "reason": "r", "expires": FUTURE, "match": matching});
    let mut spec = signed("Enforce");
    spec["exceptions"] = json!([
        half("other-image", json!({"namespaces": ["default"], "images": ["registry.example/other/*"]})),
        half("other-namespace", json!({"namespaces": ["other"], "images": ["registry.example/prod/*"]})),
    ]);
    let mut first = signed("Enforce");
    first["exceptions"] = json!([half("image", json!({"images": ["registry.example/prod/*"]}))]);
    let mut second = signed("Enforce");
    second["exceptions"] = json!([half("namespace", json!({"namespaces": ["other"]}))]);
    let bench = Bench::new(&[("one", spec), ("first", first), ("second", second)]);
    let object = pod(&pinned(UNSIGNED, 'b'));
    assert!(!bench.create("one", &object).await.allowed());
    assert!(bench.create("first", &object).await.allowed());
    assert!(
        !bench.create("second", &object).await.allowed(),
        "the strictest answer of all policies is the API server's"
    );
}

/// CVE-2026-78427: what a container or its image is called exempts nothing; digest, namespace and labels do, by name.
#[tokio::test]
async fn no_name_of_a_sidecar_is_exempt() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    for name in ["istio-proxy", "istio-init", "linkerd-proxy", "vault-agent", "zastava-observer", "pause"] {
        for field in ["initContainers", "ephemeralContainers"] {
            let mut object = pod(&pinned(SIGNED, 'a'));
            object["spec"][field] = json!([{"name": name, "image": pinned(&format!("registry.example/{name}"), 'b')}]);
            assert!(!bench.create("one", &object).await.allowed(), "{name}, {field}");
        }
    }
}

/// kyverno#17173: what is live is looked at on every request: an exception that ended covers nothing a moment later.
#[tokio::test]
async fn an_exception_that_ends_is_over_for_the_next_request() {
    let mut bench = Bench::new(&[("one", excepting(FUTURE, &json!({"namespaces": ["default"]})))]);
    let object = pod(&pinned(UNSIGNED, 'b'));
    assert!(bench.create("one", &object).await.allowed());
    bench.policy("one", &excepting(PAST, &json!({"namespaces": ["default"]})));
    assert!(!bench.create("one", &object).await.allowed());
}

/// GO-2024-3230, CVE-2026-84200.
#[tokio::test]
async fn an_expired_exception_stops_by_itself_and_reaches_no_other_policy() {
    let everything = json!({"images": ["**"]});
    let expired = excepting(PAST, &everything);
    let bench =
        Bench::new(&[("expired", expired), ("live", excepting(FUTURE, &everything)), ("other", signed("Enforce"))]);
    let image = pinned(UNSIGNED, 'b');
    assert!(!bench.create("expired", &pod(&image)).await.allowed());
    assert!(bench.create("live", &pod(&image)).await.allowed());
    assert!(!bench.create("other", &pod(&image)).await.allowed());
}
