//! Images in scope that no policy selects.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use zastava_crds::wire::report::AdmissionOutcome;

use crate::fixtures::{Bench, SIGNED, UNSIGNED, of_kind, pinned, pod, signed};

const ELSEWHERE: &str = "elsewhere.example/tools/app:1";

fn denying(mode: &str) -> Value {
    let mut spec = signed(mode);
    spec["match"] = json!({"images": ["registry.example/prod/**"]});
    spec["admission"]["unmatched"] = json!("Deny");
    spec
}

fn selecting(mode: &str, matching: &Value) -> Value {
    let mut spec = signed(mode);
    spec["match"] = matching.clone();
    spec
}

fn elsewhere() -> Value {
    pod(&pinned(ELSEWHERE, 'c'))
}

#[tokio::test]
async fn an_image_that_no_policy_selects_is_refused_by_the_policy_that_says_so_alone() {
    let lax = selecting("Enforce", &json!({"images": ["registry.example/prod/**"]}));
    let mut bench = Bench::new(&[("deny", denying("Enforce")), ("allow", lax)]);
    let answer = bench.create("deny", &elsewhere()).await;
    assert!(!answer.allowed());
    for part in [ELSEWHERE, "unmatched: Deny", "no policy in force selects elsewhere.example/tools/app", "match.images"]
    {
        assert!(answer.message().contains(part), "{part} in {}", answer.message());
    }
    let records = bench.records();
    assert_eq!((records.len(), records[0].requirement.as_str()), (1, "unmatched: Deny"));
    let other = bench.create("allow", &elsewhere()).await;
    assert_eq!((other.allowed(), other.audit("decision")), (true, "not_applicable"));
    assert!(bench.create("deny", &pod(&pinned(SIGNED, 'a'))).await.allowed());
    assert!(!bench.create("deny", &pod(&pinned(UNSIGNED, 'b'))).await.allowed());
    let template = of_kind("Deployment", &json!({"containers": [{"name": "app", "image": ELSEWHERE}]}));
    assert!(!bench.create("deny", &template).await.allowed(), "a definite failure needs no pod to show");
}

#[tokio::test]
async fn short_of_enforce_it_is_told_and_recorded() {
    let mut bench = Bench::new(&[("warn", denying("Warn")), ("audit", denying("Audit"))]);
    let warn = bench.create("warn", &elsewhere()).await;
    assert!(warn.allowed() && warn.warnings()[0].contains("no policy in force selects"), "{:?}", warn.warnings());
    let audit = bench.create("audit", &elsewhere()).await;
    assert!(audit.allowed() && audit.warnings().is_empty());
    let outcomes: Vec<_> = bench.records().into_iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes, [AdmissionOutcome::Warned, AdmissionOutcome::WouldDeny]);
}

#[tokio::test]
async fn any_policy_in_force_that_selects_the_image_answers_for_it() {
    for (other, selects) in [
        (selecting("Audit", &json!({})), true),
        (selecting("Audit", &json!({"images": ["elsewhere.example/**"]})), true),
        (selecting("Audit", &json!({"images": ["elsewhere.example/other/*"]})), false),
        (selecting("Audit", &json!({"podSelector": {"matchLabels": {"app": "web"}}})), false),
        (selecting("Audit", &json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}})), true),
        (selecting("Audit", &json!({"namespaceSelector": {"matchLabels": {"env": "test"}}})), false),
        (json!({"mode": "Audit", "runtime": {}}), false),
        (json!({"mode": "Audit", "suspend": true, "admission": {}}), false),
    ] {
        let mut bench = Bench::new(&[("deny", denying("Enforce")), ("other", other.clone())]);
        bench.namespace_seen("default", &[("env", "prod")]);
        assert_eq!(bench.create("deny", &elsewhere()).await.allowed(), selects, "{other}");
    }
}

#[tokio::test]
async fn a_namespace_that_lost_the_label_is_not_another_policys_by_an_old_cache() {
    let other = selecting("Enforce", &json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}));
    let mut bench = Bench::new(&[("deny", denying("Enforce")), ("other", other)]);
    bench.namespace_seen("default", &[("env", "prod")]);
    bench.namespace("default", &[]);
    assert!(!bench.create("deny", &elsewhere()).await.allowed());
    bench.cluster.down.store(true, Ordering::SeqCst);
    let unknown = bench.create("deny", &elsewhere()).await;
    assert!(!unknown.allowed() && unknown.message().contains("connection refused"), "{}", unknown.message());
}

#[tokio::test]
async fn one_request_asks_for_the_labels_once() {
    let other = selecting("Enforce", &json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}));
    let mut bench = Bench::new(&[("deny", denying("Enforce")), ("other", other)]);
    bench.namespace_seen("default", &[("env", "prod")]);
    let containers: Vec<_> =
        (0..40).map(|i| json!({"name": format!("c{i}"), "image": pinned(ELSEWHERE, 'c')})).collect();
    assert!(bench.create("deny", &of_kind("Pod", &json!({"containers": containers}))).await.allowed());
    assert_eq!(bench.cluster.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_exception_of_the_policy_covers_it_and_one_of_another_does_not() {
    let exceptions = json!([{"name": "tools", "reason": "agreed", "expires": "2999-01-01T00:00:00Z",
        "match": {"images": ["elsewhere.example/tools/*"]}}]);
    let mut excepting = denying("Enforce");
    excepting["exceptions"] = exceptions.clone();
    let mut lax = selecting("Enforce", &json!({"images": ["registry.example/**"]}));
    lax["exceptions"] = exceptions;
    let bench = Bench::new(&[("excepting", excepting), ("deny", denying("Enforce")), ("lax", lax)]);
    let answer = bench.create("excepting", &elsewhere()).await;
    assert_eq!((answer.allowed(), answer.audit("decision")), (true, "excepted"));
    assert!(!bench.create("deny", &elsewhere()).await.allowed());
}
