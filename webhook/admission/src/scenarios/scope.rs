//! Whom a policy speaks for.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::fixtures::{Bench, SIGNED, UNSIGNED, pinned, pod, review, signed};

fn in_namespace(namespace: &str) -> serde_json::Value {
    let mut pod = pod(&pinned(UNSIGNED, 'b'));
    pod["metadata"]["namespace"] = json!(namespace);
    pod
}

fn for_prod() -> serde_json::Value {
    let mut spec = signed("Enforce");
    spec["match"] = json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}});
    spec
}

#[tokio::test]
async fn a_namespace_is_matched_by_its_labels() {
    let mut bench = Bench::new(&[("one", for_prod())]);
    bench.namespace_seen("live", &[("env", "prod")]);
    bench.namespace_seen("test", &[("env", "test")]);
    assert!(!bench.create("one", &in_namespace("live")).await.allowed());
    let other = bench.create("one", &in_namespace("test")).await;
    assert!(other.allowed());
    assert_eq!(other.audit("decision"), "not_applicable");
}

/// CVE-2025-46342.
#[tokio::test]
async fn a_namespace_that_is_not_in_the_cache_is_asked_for_and_never_taken_as_not_matched() {
    let bench = Bench::new(&[("one", for_prod())]);
    bench.namespace("new", &[("env", "prod")]);
    assert!(!bench.create("one", &in_namespace("new")).await.allowed());
    bench.cluster.down.store(true, Ordering::SeqCst);
    let unknown = bench.create("one", &in_namespace("new")).await;
    assert!(!unknown.allowed() && unknown.message().contains("connection refused"), "{}", unknown.message());
    bench.cluster.down.store(false, Ordering::SeqCst);
    let nowhere = bench.create("one", &in_namespace("nowhere")).await;
    assert!(!nowhere.allowed() && nowhere.message().contains("not known to the API server"), "{}", nowhere.message());
}

#[tokio::test]
async fn a_label_that_is_newer_than_the_cache_counts() {
    let mut bench = Bench::new(&[("one", for_prod())]);
    bench.namespace_seen("relabelled", &[("env", "test")]);
    bench.namespace("relabelled", &[("env", "prod")]);
    assert!(!bench.create("one", &in_namespace("relabelled")).await.allowed());
}

#[tokio::test]
async fn without_a_selector_no_namespace_is_asked_for() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    bench.cluster.down.store(true, Ordering::SeqCst);
    assert!(!bench.create("one", &in_namespace("anywhere")).await.allowed());
    assert_eq!(bench.cluster.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_exempt_namespace_is_left_alone() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let answer = bench.create("one", &in_namespace("kube-system")).await;
    assert!(answer.allowed() && answer.audit("not-asked").contains("exempt"));
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "kube-system"},
        "spec": {"containers": [{"name": "app", "image": SIGNED}]}});
    assert_eq!(bench.review("/mutate", &review("CREATE", &object, None)).await.patch(), json!([]));
}

#[tokio::test]
async fn a_pod_is_matched_by_its_labels_and_a_template_by_those_of_its_pods() {
    let mut spec = signed("Enforce");
    spec["match"] = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    let bench = Bench::new(&[("one", spec)]);
    let mut object = pod(&pinned(UNSIGNED, 'b'));
    assert!(bench.create("one", &object).await.allowed());
    object["metadata"]["labels"] = json!({"app": "web"});
    assert!(!bench.create("one", &object).await.allowed());
    let containers = json!([{"name": "app", "image": UNSIGNED}]);
    let template = |labels: &str, own: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "default", "labels": {"app": own}},
            "spec": {"template": {"metadata": {"labels": {"app": labels}}, "spec": {"containers": containers}}}})
    };
    assert!(!bench.create("one", &template("web", "other")).await.allowed());
    assert!(bench.create("one", &template("other", "web")).await.allowed());
}

#[tokio::test]
async fn globs_match_the_canonical_name_and_never_the_written_one() {
    let mut spec = signed("Enforce");
    spec["match"] = json!({"images": ["docker.io/library/nginx", "registry.example/prod/**"]});
    let bench = Bench::new(&[("one", spec)]);
    for (image, selected) in [
        ("nginx", true),
        ("docker.io/nginx", true),
        ("index.docker.io/library/nginx:1", true),
        ("library/nginx", true),
        ("registry-1.docker.io/library/nginx", true),
        ("Registry.Example/prod/app", true),
        ("registry.example:443/prod/app", true),
        ("nginx-unprivileged", false),
        ("registry.example/prod/team/app", true),
        ("registry.example/production/app", false),
        ("evil.example/registry.example/prod/app", false),
        ("registry.example:5000/prod/app", false),
    ] {
        let allowed = bench.create("one", &pod(&pinned(image, 'b'))).await.allowed();
        assert_eq!(!allowed, selected, "{image}");
    }
}
