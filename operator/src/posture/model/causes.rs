//! What opens a finding and what resolves it.

use std::time::Duration;

use serde_json::json;
use zastava_crds::finding::ResolutionReason;

use super::house::{House, KEY_A, KEY_B, POLICY};

const OPEN: &str = "open web main signatures[team] (1)";
const MINUTE: Duration = Duration::from_mins(1);

async fn running(signed: bool) -> House {
    let mut house = House::new();
    house.run("web", 1, 'd');
    if signed {
        house.sign('d');
    }
    house.settle().await;
    house
}

/// <https://github.com/kyverno/kyverno/issues/7525>: the report went on saying "pass" after the signature was gone.
#[tokio::test]
async fn kyverno_7525_an_old_pass_does_not_outlive_its_signature() {
    let mut house = running(true).await;
    assert_eq!(house.outlook().satisfied, 1);
    assert!(house.told().is_empty());
    house.unsign('d');
    house.pass(MINUTE * 60).await;
    assert_eq!(house.told(), [OPEN]);
    assert_eq!((house.outlook().satisfied, house.outlook().violated), (0, 1));
}

#[tokio::test]
async fn an_image_whose_key_was_rotated_becomes_a_finding_and_putting_the_key_back_resolves_it() {
    let mut house = running(true).await;
    house.key(KEY_B);
    house.settle().await;
    assert_eq!(house.told(), [OPEN]);
    let status = house.store.stored()[0].status.clone().unwrap();
    assert_eq!(status.policies, [POLICY]);
    assert_eq!(status.image.as_deref(), Some("registry.example/web:1"));
    assert_eq!(status.digests[0].digest, super::house::sha('d'));
    assert_eq!((status.pods, status.nodes), (vec!["web-1".to_owned()], vec!["n1".to_owned()]));
    assert_eq!(status.evidence.unwrap().message, "policy signed: no signature; next: sign it");
    house.key(KEY_A);
    house.settle().await;
    assert_eq!(house.told(), ["Satisfied web main signatures[team] (1)"]);
    // It returns as the same finding, and counts how often it was opened.
    house.key(KEY_B);
    house.settle().await;
    assert_eq!(house.told(), ["open web main signatures[team] (2)"]);
}

#[tokio::test]
async fn an_exception_resolves_at_once_and_the_finding_returns_when_it_expires() {
    let mut house = running(false).await;
    assert_eq!(house.told(), [OPEN]);
    house.edit(|spec| {
        spec["exceptions"] = json!([{"name": "known", "reason": "ticket 12", "expires": "2026-01-01T00:30:00Z",
            "match": {"images": ["registry.example/**"]}}]);
    });
    house.settle().await;
    assert_eq!(
        house.resolution(),
        (ResolutionReason::Excepted, "exception known of policy signed covers it".to_owned())
    );
    assert_eq!(house.outlook().excepted, 1);
    house.pass(MINUTE * 29).await;
    assert!(house.told()[0].starts_with("Excepted"));
    house.pass(MINUTE).await;
    assert_eq!(house.told(), ["open web main signatures[team] (2)"]);
}

#[tokio::test]
async fn an_exception_by_digest_holds_for_what_runs_and_removing_it_brings_the_finding_back() {
    let mut house = running(false).await;
    house.edit(|spec| {
        spec["exceptions"] = json!([{"name": "known", "reason": "ticket 12", "expires": "2027-01-01T00:00:00Z",
            "match": {"images": [super::house::sha('d')]}}]);
    });
    house.settle().await;
    assert!(house.told()[0].starts_with("Excepted"), "{:?}", house.told());
    house.edit(|spec| spec["exceptions"] = json!([]));
    house.settle().await;
    assert_eq!(house.told(), ["open web main signatures[team] (2)"]);
}

#[tokio::test]
async fn a_policy_that_is_gone_or_suspended_or_asks_no_more_asks_nothing() {
    for leave in [
        |house: &mut House| house.delete_policy(),
        |house: &mut House| house.edit(|spec| spec["suspend"] = true.into()),
        |house: &mut House| house.edit(|spec| spec["runtime"] = json!({})),
        |house: &mut House| house.edit(|spec| spec["match"] = json!({"images": ["registry.example/other"]})),
        |house: &mut House| {
            house.edit(|spec| spec["match"] = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}));
        },
    ] {
        let mut house = running(false).await;
        leave(&mut house);
        house.settle().await;
        assert_eq!(house.resolution().0, ResolutionReason::NotAsked);
    }
}

#[tokio::test]
async fn a_workload_that_is_gone_resolves_it_and_one_that_is_restarted_does_not() {
    let mut house = running(false).await;
    house.stop("web-1");
    house.settle().await;
    house.pass(MINUTE).await;
    assert_eq!(house.told(), [OPEN]);
    house.run("web", 2, 'd');
    house.settle().await;
    assert_eq!(house.told(), [OPEN]);
    assert_eq!(house.store.stored()[0].status.as_ref().unwrap().pods, ["web-2"]);
    house.stop("web-2");
    house.settle().await;
    house.pass(MINUTE * 2).await;
    assert_eq!(house.resolution().0, ResolutionReason::NotRunning);
}

#[tokio::test]
async fn a_new_image_of_the_workload_that_satisfies_resolves_it() {
    let mut house = running(false).await;
    house.sign('e');
    house.run("web", 2, 'e');
    house.settle().await;
    assert_eq!(house.told(), [OPEN], "the old pod still runs");
    house.stop("web-1");
    house.settle().await;
    assert_eq!(house.resolution().0, ResolutionReason::Satisfied);
}

#[tokio::test]
async fn a_full_namespace_takes_no_more_and_one_that_ends_holds_nothing_up() {
    let mut house = House::new();
    for n in 0..30 {
        house.run(&format!("web{n}"), 1, 'd');
    }
    house.settle().await;
    // Findings are written several at a time, so the bound may be passed by as many, never by more.
    let held = house.told().len();
    assert!((3..11).contains(&held), "{held}");
    let capped = house.metrics.writes("capped");
    assert_eq!(capped, 30 - u64::try_from(held).unwrap());
    house.settle().await;
    assert_eq!((house.told().len(), house.metrics.writes("capped")), (held, capped), "what was refused is remembered");
    house.pass(MINUTE).await;
    assert_eq!((house.told().len(), house.metrics.writes("capped")), (held, 2 * capped), "for a minute");
    house.store.end_namespace("shop");
    house.store.catch_up();
    house.settle().await;
    house.settle().await;
    assert!(house.told().is_empty());
    assert_eq!(house.metrics.writes("missing"), u64::try_from(held).unwrap());
}
