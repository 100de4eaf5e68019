//! Hostile reviews, through the real routes: always an answer, and it is the request's own.

use serde_json::{Value, json};

use crate::fixtures::{Bench, SIGNED, UNSIGNED, of_kind, pod, review, signed};

#[test]
fn reviews() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let spec = json!({"containers": [{"name": "a", "image": SIGNED}], "initContainers": [{"name": "b", "image": UNSIGNED}],
        "ephemeralContainers": [{"name": "c", "image": SIGNED}],
        "volumes": [{"name": "v", "image": {"reference": SIGNED}}]});
    let seeds: Vec<Vec<u8>> = ["Pod", "Deployment", "CronJob"]
        .iter()
        .map(|kind| review("UPDATE", &of_kind(kind, &spec), Some(&of_kind(kind, &spec))))
        .chain([review("CREATE", &pod(UNSIGNED), None)])
        .map(|review| serde_json::to_vec(&review).unwrap())
        .collect();
    let seeds: Vec<_> = seeds.iter().map(Vec::as_slice).collect();
    zastava_fuzz::run(&seeds, 1024 * 1024, |input| {
        for path in ["/validate/one", "/mutate"] {
            let (status, body) = runtime.block_on(bench.post(path, input.to_vec()));
            if status != 200 {
                assert!(status == 400, "{status}");
                continue;
            }
            let (asked, answered): (Value, Value) =
                (serde_json::from_slice(input).unwrap(), serde_json::from_slice(&body).unwrap());
            assert_eq!(asked["request"]["uid"], answered["response"]["uid"]);
            assert!(answered["response"]["allowed"].is_boolean());
        }
    });
}

/// The largest object that the API server takes, and more containers than any pod has.
#[tokio::test]
async fn a_thousand_containers_and_three_mebibytes_are_answered() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let containers = |count: usize, image: &str| -> Vec<_> {
        (0..count).map(|i| json!({"name": format!("c{i}"), "image": image, "args": ["x".repeat(2_000)]})).collect()
    };
    let mut large = pod(SIGNED);
    large["spec"]["containers"] = json!(containers(1_000, UNSIGNED));
    let answer = bench.create("one", &large).await;
    assert!(!answer.allowed());
    assert!(answer.message().contains("1000 images, at most 256 can be verified"), "{}", answer.message());
    assert!(answer.message().lines().count() <= 10);
    large["spec"]["containers"] = json!(containers(1, &crate::fixtures::pinned(SIGNED, 'a')));
    large["metadata"]["annotations"] = json!({"large": "x".repeat(3 * 1024 * 1024)});
    assert!(bench.create("one", &large).await.allowed());
}

#[tokio::test]
async fn unknown_fields_and_kinds_are_no_reason_to_fail_and_other_text_is_turned_away() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let mut strange = review("CREATE", &pod(UNSIGNED), None);
    strange["request"]["newField"] = json!({"a": [1]});
    strange["request"]["object"]["spec"]["newField"] = json!(true);
    assert!(!bench.review("/validate/one", &strange).await.allowed());
    let other =
        json!({"apiVersion": "example.com/v9", "kind": "Strange", "metadata": {"name": "s", "namespace": "default"}});
    assert!(bench.create("one", &other).await.allowed());
    let mut invalid = serde_json::to_vec(&review("CREATE", &pod(UNSIGNED), None)).unwrap();
    let at = invalid.windows(8).position(|bytes| bytes == b"unsigned").unwrap();
    invalid[at] = 0xff;
    for body in [invalid, Vec::new(), b"\xef\xbb\xbf{}".to_vec(), b"{}".to_vec(), vec![b'['; 5_000_000]] {
        assert_eq!(bench.post("/validate/one", body).await.0, 400);
    }
}
