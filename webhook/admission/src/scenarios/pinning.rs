//! What is pinned, and what becomes of a pod that is not.

use std::sync::atomic::Ordering;

use serde_json::json;
use zastava_verify::answer::UnknownCause;

use crate::fixtures::{Bench, SIGNED, UNSIGNED, of_kind, pinned, pod, review, signed};

async fn patch(bench: &Bench, object: &serde_json::Value) -> serde_json::Value {
    let answer = bench.review("/mutate", &review("CREATE", object, None)).await;
    assert!(answer.allowed());
    answer.patch()
}

#[tokio::test]
async fn every_field_of_a_pod_is_pinned_and_keeps_its_tag() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let object = of_kind(
        "Pod",
        &json!({
            "containers": [{"name": "a", "image": SIGNED}, {"name": "b", "image": pinned(SIGNED, 'a')}],
            "initContainers": [{"name": "i", "image": UNSIGNED}],
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "v", "image": {"reference": SIGNED}}],
        }),
    );
    assert_eq!(
        patch(&bench, &object).await,
        json!([
            {"op": "replace", "path": "/spec/containers/0/image", "value": pinned(SIGNED, 'a')},
            {"op": "replace", "path": "/spec/initContainers/0/image", "value": pinned(UNSIGNED, 'b')},
            {"op": "replace", "path": "/spec/volumes/1/image/reference", "value": pinned(SIGNED, 'a')},
        ])
    );
}

#[tokio::test]
async fn a_new_ephemeral_container_is_pinned_and_an_old_one_is_left() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let mut old = pod(&pinned(SIGNED, 'a'));
    old["spec"]["ephemeralContainers"] = json!([{"name": "old", "image": SIGNED}]);
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"].as_array_mut().unwrap().push(json!({"name": "new", "image": SIGNED}));
    let mut request = review("UPDATE", &new, Some(&old));
    request["request"]["subResource"] = json!("ephemeralcontainers");
    let answer = bench.review("/mutate", &request).await;
    let path = "/spec/ephemeralContainers/1/image";
    assert_eq!(answer.patch(), json!([{"op": "replace", "path": path, "value": pinned(SIGNED, 'a')}]));
}

#[tokio::test]
async fn a_template_is_never_changed() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let object = of_kind("Deployment", &json!({"containers": [{"name": "a", "image": SIGNED}]}));
    assert_eq!(patch(&bench, &object).await, json!([]));
}

#[tokio::test]
async fn audit_changes_nothing_and_warn_only_where_it_is_written() {
    let mut written = signed("Warn");
    written["admission"]["digests"] = json!("Resolve");
    let mut audit = signed("Audit");
    audit["admission"]["digests"] = json!("Resolve");
    for (spec, pins) in [(signed("Enforce"), true), (signed("Warn"), false), (written, true), (audit, false)] {
        let bench = Bench::new(&[("one", spec.clone())]);
        assert_eq!(patch(&bench, &pod(SIGNED)).await != json!([]), pins, "{spec}");
    }
}

#[tokio::test]
async fn labels_are_asked_for_only_where_they_decide() {
    let mut selecting = signed("Enforce");
    selecting["match"] = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
    for (spec, image, pins, asks) in [
        (signed("Enforce"), SIGNED.to_owned(), true, 0),
        (selecting.clone(), pinned(SIGNED, 'a'), false, 0),
        (selecting, SIGNED.to_owned(), true, 1),
    ] {
        let bench = Bench::new(&[("one", spec.clone())]);
        bench.namespace("unseen", &[("a", "b")]);
        let mut object = pod(&image);
        object["metadata"]["namespace"] = json!("unseen");
        assert_eq!(patch(&bench, &object).await != json!([]), pins, "{spec}, {image}");
        assert_eq!(bench.cluster.asked.load(Ordering::SeqCst), asks, "{spec}, {image}");
    }
}

#[tokio::test]
async fn a_policy_that_requires_written_digests_is_not_helped() {
    let mut require = signed("Enforce");
    require["admission"]["digests"] = json!("Require");
    let bench = Bench::new(&[("require", require), ("resolve", signed("Enforce"))]);
    assert_eq!(patch(&bench, &pod(SIGNED)).await, json!([]));
}

#[tokio::test]
async fn a_registry_that_does_not_answer_leaves_the_pod_as_it_is_and_validation_says_why() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    *bench.engine.down.lock().unwrap() = Some(UnknownCause::Unreachable);
    let answer = bench.review("/mutate", &review("CREATE", &pod(SIGNED), None)).await;
    assert!(answer.allowed() && answer.patch() == json!([]));
    assert!(answer.audit("not-pinned-0").contains("the registry does not answer"), "{answer:?}");
    let refused = bench.create("one", &pod(SIGNED)).await;
    assert!(!refused.allowed() && refused.message().contains("the registry does not answer"), "{}", refused.message());
}

#[tokio::test]
async fn under_enforce_a_good_image_by_tag_alone_is_refused_as_not_pinned() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let answer = bench.create("one", &pod(SIGNED)).await;
    assert!(!answer.allowed());
    for part in ["not pinned", "apply it again", &"a".repeat(64)] {
        assert!(answer.message().contains(part), "{part} in {}", answer.message());
    }
}

#[tokio::test]
async fn what_mutation_pins_validation_takes() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let mut object = pod(SIGNED);
    object["spec"]["containers"][0]["image"] = patch(&bench, &object).await[0]["value"].clone();
    assert!(bench.create("one", &object).await.allowed());
    assert_eq!(patch(&bench, &object).await, json!([]), "a second call changes nothing");
}
