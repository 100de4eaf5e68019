//! Exceptions act within their own policy, and end.

use serde_json::{Value, json};

use crate::fixtures::{Bench, UNSIGNED, digest, pinned, pod, signed};

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
        (json!({"paths": ["/bin/sh"]}), false),
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
