//! Every field of every kind, and what can't be read.

use axum::http::StatusCode;
use serde_json::json;
use strum::IntoEnumIterator;

use crate::{
    fixtures::{Bench, MISSING, SIGNED, UNSIGNED, of_kind, pinned, pod, review, signed},
    review::kind::WorkloadKind,
    server::endpoint::MAX_BODY,
};

fn fields(image: &str) -> [(&'static str, serde_json::Value); 4] {
    let good = pinned(SIGNED, 'a');
    [
        ("container bad", json!({"containers": [{"name": "good", "image": good}, {"name": "bad", "image": image}]})),
        (
            "init container bad",
            json!({"initContainers": [{"name": "bad", "image": image}], "containers": [{"name": "good", "image": good}]}),
        ),
        (
            "ephemeral container bad",
            json!({"ephemeralContainers": [{"name": "bad", "image": image}], "containers": [{"name": "good", "image": good}]}),
        ),
        (
            "image volume bad",
            json!({"volumes": [{"name": "bad", "image": {"reference": image}}], "containers": [{"name": "good", "image": good}]}),
        ),
    ]
}

/// CVE-2023-2727, Connaisseur ≤ 1.3.0 and ≤ 3.1.1, kyverno#16275: no field is forgotten.
#[tokio::test]
async fn an_unsigned_image_is_refused_in_every_field_of_every_kind() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    for kind in WorkloadKind::iter() {
        let kind: &'static str = kind.into();
        for (field, spec) in fields(&pinned(UNSIGNED, 'b')) {
            let answer = bench.create("one", &of_kind(kind, &spec)).await;
            assert!(!answer.allowed(), "{kind}, {field}");
            assert!(answer.message().contains(field), "{kind}, {field}: {}", answer.message());
            assert!(answer.message().contains("refuses 1 of 2 images"), "{kind}, {field}: {}", answer.message());
        }
        for (field, spec) in fields(&pinned(SIGNED, 'a')) {
            let answer = bench.create("one", &of_kind(kind, &spec)).await;
            assert!(answer.allowed(), "{kind}, {field}: {}", answer.message());
        }
    }
}

#[tokio::test]
async fn a_refusal_tells_all_that_is_needed_in_at_most_ten_lines() {
    let mut bench = Bench::new(&[("one", signed("Enforce"))]);
    let image = pinned(UNSIGNED, 'b');
    let answer = bench.create("one", &pod(&image)).await;
    for part in ["policy policy-one", "container app", &image, "signatures[release]", "no signature", "sign the image"]
    {
        assert!(answer.message().contains(part), "{part} in {}", answer.message());
    }
    assert_eq!(answer.0["status"]["code"], 403);
    assert_eq!(answer.audit("decision"), "denied");
    assert!(answer.audit("image-0").contains("no signature"));
    let records = bench.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].event_id, "review-1/app");
    assert_eq!((records[0].requirement.as_str(), records[0].container.as_str()), ("signatures[release]", "app"));

    let containers: Vec<_> = (0..20).map(|i| json!({"name": format!("c{i}"), "image": image})).collect();
    let answer = bench.create("one", &of_kind("Pod", &json!({"containers": containers}))).await;
    assert!(answer.message().lines().count() <= 10, "{}", answer.message());
    assert!(answer.message().ends_with("and 18 more"), "{}", answer.message());
}

/// kyverno#17105: the same image twice gets the same answer twice.
#[tokio::test]
async fn one_image_in_two_containers_and_two_requests_is_judged_alike() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    for (image, allowed) in [(pinned(SIGNED, 'a'), true), (pinned(UNSIGNED, 'b'), false)] {
        let object =
            of_kind("Pod", &json!({"containers": [{"name": "a", "image": image}, {"name": "b", "image": image}]}));
        for _ in 0..2 {
            assert_eq!(bench.create("one", &object).await.allowed(), allowed, "{image}");
        }
    }
}

#[tokio::test]
async fn what_a_registry_says_can_not_forge_a_line() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let answer = bench.create("one", &pod("registry.example/a:1\nallowed")).await;
    assert!(!answer.allowed());
    assert!(answer.message().lines().all(|line| !line.starts_with("allowed")), "{}", answer.message());
}

#[tokio::test]
async fn a_template_takes_tags_and_is_refused_for_a_definite_failure_only() {
    let mut bench = Bench::new(&[("one", signed("Enforce"))]);
    let deployment = |image: &str| of_kind("Deployment", &json!({"containers": [{"name": "app", "image": image}]}));
    assert!(bench.create("one", &deployment(SIGNED)).await.allowed());
    let refused = bench.create("one", &deployment(UNSIGNED)).await;
    assert!(!refused.allowed() && refused.message().contains(&"b".repeat(64)), "{}", refused.message());
    assert_eq!(bench.records().len(), 1);
    // Flux dry-runs a Deployment before its pull secret exists.
    let unknown = bench.create("one", &deployment(MISSING)).await;
    assert!(unknown.allowed());
    assert!(unknown.warnings()[0].contains("could not be verified"), "{:?}", unknown.warnings());
    assert!(bench.records().is_empty(), "its pods are the ones to record");
    let malformed = bench.create("one", &deployment("UPPER/Case")).await;
    assert!(malformed.allowed() && !malformed.warnings().is_empty());
}

#[tokio::test]
async fn a_reference_that_can_not_be_read_is_in_everybodys_scope() {
    let mut spec = signed("Enforce");
    spec["match"] = json!({"images": ["registry.example/prod/**"]});
    let bench = Bench::new(&[("one", spec)]);
    let answer = bench.create("one", &pod("UPPER/Case:1")).await;
    assert!(!answer.allowed());
    assert!(answer.message().contains("is not an image reference"), "{}", answer.message());
}

#[tokio::test]
async fn other_kinds_subresources_and_operations_bring_in_no_images() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let mut config = pod(UNSIGNED);
    config["kind"] = json!("ConfigMap");
    let answer = bench.create("one", &config).await;
    assert!(answer.allowed() && answer.audit("not-asked").contains("ConfigMap"), "{answer:?}");
    let mut scale =
        review("UPDATE", &of_kind("Deployment", &json!({"containers": [{"name": "a", "image": UNSIGNED}]})), None);
    for (subresource, allowed) in [("scale", true), ("status", true), ("", false)] {
        scale["request"]["subResource"] = json!(subresource);
        assert_eq!(bench.review("/validate/one", &scale).await.allowed(), allowed, "{subresource}");
    }
    let delete = review("DELETE", &pod(UNSIGNED), None);
    assert!(bench.review("/validate/one", &delete).await.allowed());
}

#[tokio::test]
async fn a_body_that_is_no_review_or_too_large_gets_no_verdict() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    assert_eq!(bench.post("/validate/one", b"{}".to_vec()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(bench.post("/validate/one", vec![b' '; MAX_BODY + 1]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    // The largest object that the API server takes, with its predecessor.
    let mut large = pod(&pinned(SIGNED, 'a'));
    large["metadata"]["annotations"] = json!({"a": "x".repeat(3 * 1024 * 1024)});
    let answer = bench.review("/validate/one", &review("UPDATE", &large, Some(&large))).await;
    assert!(answer.allowed());
}

#[tokio::test]
async fn more_images_than_can_be_judged_are_refused() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let image = pinned(SIGNED, 'a');
    let containers: Vec<_> = (0..300).map(|i| json!({"name": format!("c{i}"), "image": image})).collect();
    let answer = bench.create("one", &of_kind("Pod", &json!({"containers": containers}))).await;
    assert!(!answer.allowed() && answer.message().contains("at most 256"), "{}", answer.message());
}
