//! The intake through its routes.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use tower::ServiceExt as _;
use zastava_crds::wire::{
    report::{BatchMark, MAX_BATCH_BYTES, Report},
    sync::{NodeStatus, RuleSet, SYNC_HOLD_SECONDS, UncoveredPod},
};

use super::fixtures::{House, batch, drift};
use crate::{
    finding::model::{pods::pod, records::denied},
    leader::{Holder, Leadership},
};

fn house() -> (House, impl Send) {
    let (leadership, guard) = Leadership::held_for_tests();
    let house = House::over(leadership);
    house.pods.live(pod("shop", "p", "n1", "web"));
    (house, guard)
}

async fn post(house: &House, path: &str, token: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request =
        Request::post(path).header(header::AUTHORIZATION, format!("Bearer {token}")).body(body.into()).unwrap();
    let response = house.router.clone().oneshot(request).await.unwrap();
    read(response).await
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "application/problem+json");
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    if problem {
        assert_eq!(value["status"], status.as_u16());
        assert!(!value["title"].as_str().unwrap().is_empty());
    }
    (status, value)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

async fn report(house: &House, token: &str, reporter: &str, seq: u64, records: Vec<Report>) -> (StatusCode, Value) {
    post(house, "/v1/reports", token, json(&batch(reporter, seq, records))).await
}

#[tokio::test]
async fn a_batch_becomes_findings_and_gets_its_receipt_as_often_as_it_comes() {
    let (house, _guard) = house();
    for _ in 0..3 {
        let (status, receipt) =
            report(&house, "n1", "node:uid-n1", 1, vec![drift("/a"), drift("/a"), drift("/b")]).await;
        assert_eq!((status, &receipt["merged"]), (StatusCode::OK, &Value::from(3)));
        assert_eq!(receipt["mark"], serde_json::json!({"reporter": "node:uid-n1", "seq": 1}));
    }
    let counts: Vec<_> = house.store.stored().iter().map(|finding| finding.status.clone().unwrap().count).collect();
    assert_eq!(counts.iter().sum::<u64>(), 3);
    let (status, _) = report(&house, "w1", "pod:w1/a", 1, vec![denied("shop", "r/web:1")]).await;
    assert_eq!((status, house.store.stored().len()), (StatusCode::OK, 3));
}

#[tokio::test]
async fn strangers_are_told_why() {
    let (house, _guard) = house();
    let (status, problem) = report(&house, "stranger", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(problem["title"].as_str().unwrap().contains("system:serviceaccount:shop:default"), "{problem}");
    let (status, problem) = report(&house, "forged", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(problem["detail"].as_str().unwrap().contains("projected token"), "{problem}");
    let request = Request::post("/v1/reports").body(Body::empty()).unwrap();
    assert_eq!(house.router.clone().oneshot(request).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert!(house.store.stored().is_empty());
}

#[tokio::test]
async fn a_mark_or_a_state_of_another_node_is_refused_and_changes_nothing() {
    let (house, _guard) = house();
    let (status, problem) = report(&house, "n2", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!((status, problem["detail"].as_str()), (StatusCode::FORBIDDEN, Some("the token speaks for node:uid-n2")));
    let state = NodeStatus { node: "n1".to_owned(), ..NodeStatus::default() };
    let (status, _) = post(&house, "/v1/sync", "n2", json(&state)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let mark = BatchMark { reporter: "node:uid-n1".to_owned(), seq: 9 };
    let state = NodeStatus { node: "n2".to_owned(), acknowledged: Some(mark), ..NodeStatus::default() };
    let (status, _) = post(&house, "/v1/sync", "n2", json(&state)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(house.nodes.all().is_empty() && !house.nodes.confirmed("node:uid-n1", 1));
    let (status, _) = post(&house, "/v1/sync", "w1", json(&NodeStatus::default())).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn another_nodes_pod_and_a_wrong_type_are_refused_for_good_in_the_receipt() {
    let (house, _guard) = house();
    let (status, receipt) = report(&house, "n2", "node:uid-n2", 1, vec![drift("/a"), denied("shop", "r/web:1")]).await;
    assert_eq!((status, &receipt["merged"]), (StatusCode::OK, &Value::from(0)));
    let refused = serde_json::json!([{"reason": "foreignPod", "count": 1}, {"reason": "wrongType", "count": 1}]);
    assert_eq!(receipt["refused"], refused);
    assert!(house.store.stored().is_empty());
}

#[tokio::test]
async fn an_unreadable_record_is_refused_and_an_unreadable_batch_told_of() {
    let (house, _guard) = house();
    let mut body = serde_json::to_value(batch("node:uid-n1", 1, vec![drift("/a"), drift("/b")])).unwrap();
    body["records"][0]["detail"] = Value::from("?");
    let (status, receipt) = post(&house, "/v1/reports", "n1", body.to_string()).await;
    assert_eq!((status, &receipt["merged"], &receipt["refused"][0]["count"]), (StatusCode::OK, &1.into(), &1.into()));
    let (status, _) = post(&house, "/v1/reports", "n1", "{").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, problem) = post(&house, "/v1/reports", "n1", vec![b' '; MAX_BATCH_BYTES + 1]).await;
    assert_eq!((status, problem["detail"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("send smaller batches")));
    let (status, _) = post(&house, "/v2/reports", "n1", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_confirmed_batch_that_comes_again_is_let_go() {
    let (house, _guard) = house();
    for seq in [1, 2] {
        report(&house, "n1", "node:uid-n1", seq, vec![drift("/a")]).await;
    }
    let (status, receipt) = report(&house, "n1", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!((status, &receipt["merged"]), (StatusCode::OK, &Value::from(0)));
    assert_eq!(house.store.stored()[0].status.as_ref().unwrap().count, 2);
}

#[tokio::test]
async fn a_replica_that_does_not_lead_names_the_leader_and_asks_nobody() {
    let leader = Holder { name: "other".to_owned(), address: Some("10.0.0.7:9444".to_owned()) };
    let (leadership, _guard) = Leadership::held_by_for_tests(leader);
    let house = House::over(leadership);
    let expected = serde_json::json!({"leader": "other", "address": "10.0.0.7:9444"});
    let (status, body) = report(&house, "n1", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!((status, &body), (StatusCode::SERVICE_UNAVAILABLE, &expected));
    let (status, body) = post(&house, "/v1/sync", "n1", json(&NodeStatus::default())).await;
    assert_eq!((status, &body), (StatusCode::SERVICE_UNAVAILABLE, &expected));
    assert_eq!(house.reviews.asked(), 0);
    let house = House::over(Leadership::never_for_tests());
    let (status, body) = report(&house, "n1", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!((status, body), (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({})));
}

#[tokio::test]
async fn what_cannot_be_asked_now_is_to_be_sent_again() {
    let (house, _guard) = house();
    house.reviews.away(true);
    let (status, problem) = report(&house, "n1", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!((status, problem["detail"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("send the same again")));
    house.reviews.away(false);
    house.pods.away(true);
    let (status, problem) = report(&house, "n1", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!((status, problem["detail"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("send the same again")));
    house.pods.away(false);
    let (status, _) = report(&house, "n1", "node:uid-n1", 1, vec![drift("/a")]).await;
    assert_eq!(status, StatusCode::OK);
}

fn state(hash: &str) -> Vec<u8> {
    json(&NodeStatus { node: "n1".to_owned(), rules_hash: hash.to_owned(), observing: true, ..NodeStatus::default() })
}

#[tokio::test(start_paused = true)]
async fn a_sync_tells_other_rules_at_once_and_waits_for_them_else() {
    let (house, _guard) = house();
    let (status, rules) = post(&house, "/v1/sync", "n1", state("")).await;
    assert_eq!((status, rules["hash"].as_str()), (StatusCode::OK, Some("sha256:1")));
    assert!(house.nodes.get("n1").unwrap().status.observing);
    let began = Instant::now();
    let (status, body) = post(&house, "/v1/sync", "n1", state("sha256:1")).await;
    assert_eq!((status, body), (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(began.elapsed().as_secs(), SYNC_HOLD_SECONDS);
    assert!(house.nodes.get("n1").unwrap().age.is_zero());
    let change = async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        house.rules.send_replace(Some(RuleSet { hash: "sha256:2".to_owned(), ..RuleSet::default() }.into()));
    };
    let began = Instant::now();
    let ((status, rules), ()) = tokio::join!(post(&house, "/v1/sync", "n1", state("sha256:1")), change);
    assert_eq!((status, rules["hash"].as_str()), (StatusCode::OK, Some("sha256:2")));
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_held_sync_ends_with_its_successor_with_the_lease_and_with_the_program() {
    let (leadership, guard) = Leadership::held_for_tests();
    let house = House::over(leadership);
    let began = Instant::now();
    let second = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let lose = async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            drop(guard);
        };
        tokio::join!(post(&house, "/v1/sync", "n1", state("sha256:1")), lose).0
    };
    let first = async {
        let answer = post(&house, "/v1/sync", "n1", state("sha256:1")).await;
        (answer.0, began.elapsed().as_secs())
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, (StatusCode::NO_CONTENT, 1));
    assert_eq!((second.0, began.elapsed().as_secs()), (StatusCode::SERVICE_UNAVAILABLE, 2));
    let (leadership, _guard) = Leadership::held_for_tests();
    let house = House::over(leadership);
    house.ending.cancel();
    assert_eq!(post(&house, "/v1/sync", "n1", state("sha256:1")).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_state_beyond_its_bounds_is_not_kept() {
    let (house, _guard) = house();
    let pod = UncoveredPod {
        namespace: "shop".to_owned(),
        pod: "p".to_owned(),
        reason: zastava_crds::wire::sync::CoverageReason::NoBTF,
    };
    let status = NodeStatus { node: "n1".to_owned(), uncovered: vec![pod; 101], ..NodeStatus::default() };
    assert_eq!(post(&house, "/v1/sync", "n1", json(&status)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(post(&house, "/v1/sync", "n1", "[]").await.0, StatusCode::BAD_REQUEST);
    assert!(house.nodes.all().is_empty());
}
