//! What an update may do without being asked.

use serde_json::json;

use crate::fixtures::{Bench, SIGNED, UNSIGNED, of_kind, pinned, pod, review, signed};

#[tokio::test]
async fn an_update_that_changes_no_image_needs_no_verdict() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let old = of_kind("Job", &json!({"containers": [{"name": "app", "image": UNSIGNED}]}));
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!([]);
    new["metadata"]["labels"] = json!({"done": "true"});
    let answer = bench.review("/validate/one", &review("UPDATE", &new, Some(&old))).await;
    assert!(answer.allowed(), "{}", answer.message());
    assert_eq!(bench.engine.asked.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn only_the_changed_image_of_an_update_is_asked_about() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let old = pod(&pinned(UNSIGNED, 'b'));
    let mut new = old.clone();
    new["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "two", "image": pinned(SIGNED, 'a')}));
    assert!(bench.review("/validate/one", &review("UPDATE", &new, Some(&old))).await.allowed());
    new["spec"]["containers"][1]["image"] = json!(pinned(UNSIGNED, 'b'));
    let answer = bench.review("/validate/one", &review("UPDATE", &new, Some(&old))).await;
    assert!(answer.message().contains("refuses 1 of 1 images"), "{}", answer.message());
}

/// CVE-2023-34091.
#[tokio::test]
async fn a_deletion_timestamp_hides_no_change() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let mut old = pod(&pinned(SIGNED, 'a'));
    old["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!(pinned(UNSIGNED, 'b'));
    assert!(!bench.review("/validate/one", &review("UPDATE", &new, Some(&old))).await.allowed());
}

/// CVE-2023-2727.
#[tokio::test]
async fn an_ephemeral_container_is_asked_about_through_its_subresource() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let old = pod(&pinned(UNSIGNED, 'b'));
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": pinned(UNSIGNED, 'b')}]);
    let mut request = review("UPDATE", &new, Some(&old));
    request["request"]["subResource"] = json!("ephemeralcontainers");
    let answer = bench.review("/validate/one", &request).await;
    assert!(!answer.allowed());
    assert!(answer.message().contains("ephemeral container debug"), "{}", answer.message());
}

/// kyverno#16336, kyverno#11529.
#[tokio::test]
async fn no_annotation_of_the_request_decides_anything() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let mut forged = pod(&pinned(UNSIGNED, 'b'));
    forged["metadata"]["annotations"] = json!({
        "zastava.stella-ops.org/verdict": "proven",
        "zastava.stella-ops.org/skip": "true",
        "kyverno.io/verify-images": "{\"registry.example/prod/app\":\"pass\"}",
    });
    assert!(!bench.create("one", &forged).await.allowed());
}

/// CVE-2021-25735: `oldObject` says whether an image changed, and nothing else.
#[tokio::test]
async fn an_old_object_vouches_for_nothing_but_the_same_use_of_the_same_image() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let bad = pinned(UNSIGNED, 'b');
    let new = pod(&bad);
    for old in [
        of_kind("Pod", &json!({"initContainers": [{"name": "app", "image": bad}]})),
        of_kind("Pod", &json!({"containers": [{"name": "other", "image": bad}]})),
        of_kind("Pod", &json!({"containers": [{"name": "app", "image": UNSIGNED}]})),
        of_kind("Deployment", &json!({"containers": [{"name": "app", "image": bad}]})),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {"image": bad}}}),
    ] {
        let answer = bench.review("/validate/one", &review("UPDATE", &new, Some(&old))).await;
        assert!(!answer.allowed(), "{old}");
    }
    assert!(!bench.review("/validate/one", &review("UPDATE", &new, None)).await.allowed());
    assert!(!bench.review("/validate/one", &review("CREATE", &new, Some(&new))).await.allowed());
}

/// CVE-2026-122321, CVE-2022-47633: the digest that was verified is the one that starts.
#[tokio::test]
async fn a_moved_tag_is_judged_by_the_digest_that_the_pod_names() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    assert!(bench.create("one", &pod(&pinned(SIGNED, 'a'))).await.allowed());
    // The tag moves to unsigned content. What names the proven digest stays good, what names the new one does not.
    bench.engine.tags.lock().unwrap().insert(SIGNED.to_owned(), crate::fixtures::digest('b'));
    assert!(bench.create("one", &pod(&pinned(SIGNED, 'a'))).await.allowed());
    assert!(!bench.create("one", &pod(&pinned(SIGNED, 'b'))).await.allowed());
    let moved = bench.review("/mutate", &review("CREATE", &pod(SIGNED), None)).await;
    assert_eq!(moved.patch()[0]["value"], pinned(SIGNED, 'b'));
}
