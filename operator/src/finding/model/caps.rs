//! Caps: what is refused, counted, and never holds up what has room.

use std::collections::BTreeMap;

use zastava_crds::{
    finding::RuntimeFindingStatus,
    wire::report::{BatchMark, BatchReceipt, Refused, RefusedReason, Report},
};

use super::{
    pods::{FakePods, pod},
    records::{denied, drift},
    store::MemoryStore,
};
use crate::{
    finding::{Caps, FindingMetrics, Merger, attribute::Sender},
    nodes::NodeRegistry,
};

const OWN: &str = "zastava-system";

struct House {
    store: MemoryStore,
    pods: FakePods,
    merger: Merger<MemoryStore, FakePods>,
}

fn house(cap: usize) -> House {
    let (store, pods) = (MemoryStore::default(), FakePods::default());
    let caps = Caps::new(move |policies| if policies == ["baseline"] { cap } else { 0 });
    let (nodes, metrics) = (NodeRegistry::default(), FindingMetrics::default());
    let merger = Merger::new(store.clone(), pods.clone(), nodes, caps, OWN.to_owned(), metrics);
    House { store, pods, merger }
}

impl House {
    async fn report(&self, node: &str, seq: u64, records: Vec<Report>) -> BatchReceipt {
        let mark = BatchMark { reporter: format!("node:{node}"), seq };
        let sender = Sender::Observer { node: node.to_owned() };
        self.merger.merge(&mark, &sender, records.into_iter().map(Some).collect()).await.unwrap()
    }

    /// Findings by namespace.
    fn held(&self) -> BTreeMap<String, usize> {
        let mut held = BTreeMap::new();
        for finding in self.store.stored() {
            *held.entry(finding.metadata.namespace.unwrap()).or_default() += 1;
        }
        held
    }
}

fn capped(count: u64) -> Vec<Refused> {
    vec![Refused { reason: RefusedReason::Capped, count }]
}

#[tokio::test]
async fn a_full_namespace_takes_no_new_finding_and_goes_on_counting_the_old_ones() {
    let house = house(2);
    house.pods.live(pod("shop", "p", "n1", "web"));
    house.pods.live(pod("bank", "q", "n1", "web"));
    for (seq, path) in [(1, "/tmp/a"), (2, "/tmp/b")] {
        assert_eq!(house.report("n1", seq, vec![drift("shop", "p", path)]).await.merged, 1);
    }
    let records = vec![
        drift("shop", "p", "/tmp/c"),
        drift("shop", "p", "/tmp/c"),
        drift("shop", "p", "/tmp/a"),
        drift("bank", "q", "/tmp/c"),
    ];
    let receipt = house.report("n1", 3, records).await;
    assert_eq!((receipt.merged, receipt.refused), (2, capped(2)));
    assert_eq!(house.held(), BTreeMap::from([("shop".to_owned(), 2), ("bank".to_owned(), 1)]));
}

#[tokio::test]
async fn a_finding_that_the_view_does_not_show_yet_is_not_taken_for_a_new_one() {
    let house = house(1);
    house.pods.live(pod("shop", "p", "n1", "web"));
    house.report("n1", 1, vec![drift("shop", "p", "/tmp/a")]).await;
    // Another replica, whose view shows the namespace full of something else.
    let view = house.store.another();
    view.insert_in("shop", "older", "/tmp/old", RuntimeFindingStatus::default());
    let caps = Caps::new(|_| 1);
    let merger =
        Merger::new(view, house.pods.clone(), NodeRegistry::default(), caps, OWN.to_owned(), FindingMetrics::default());
    let mark = BatchMark { reporter: "node:n1".to_owned(), seq: 2 };
    let sender = Sender::Observer { node: "n1".to_owned() };
    let receipt = merger.merge(&mark, &sender, vec![Some(drift("shop", "p", "/tmp/a"))]).await.unwrap();
    assert_eq!((receipt.merged, receipt.refused), (1, Vec::new()));
}

#[tokio::test]
async fn a_node_that_makes_pods_up_leaves_room_for_the_others() {
    let house = house(1);
    let made_up = |node: &str| (0..30).map(|n| drift("shop", &format!("{node}-{n}"), "/tmp/x")).collect::<Vec<_>>();
    let receipt = house.report("n1", 1, made_up("n1")).await;
    assert_eq!(receipt.merged + receipt.refused[0].count, 30);
    // Groups are written several at a time, so the bound may be passed by as many, never by more.
    let of_n1 = house.held()[OWN];
    assert!((20..28).contains(&of_n1), "{of_n1}");
    assert_eq!(house.report("n2", 1, vec![drift("shop", "other", "/tmp/x")]).await.merged, 1);
    // All nodes together are bounded too.
    for node in 3..20 {
        let node = format!("n{node}");
        house.report(&node, 1, made_up(&node)).await;
    }
    let all = house.held()[OWN];
    assert!((200..208).contains(&all), "{all}");
}

#[tokio::test]
async fn what_cannot_be_read_or_may_not_be_told_is_refused_by_itself() {
    let house = house(10);
    house.pods.live(pod("shop", "p", "n1", "web"));
    house.pods.live(pod("shop", "q", "n2", "web"));
    let mark = BatchMark { reporter: "node:n1".to_owned(), seq: 1 };
    let sender = Sender::Observer { node: "n1".to_owned() };
    let records = vec![
        Some(drift("shop", "p", "/tmp/a")),
        None,
        Some(denied("shop", "registry.example/web:1")),
        Some(drift("shop", "q", "/tmp/a")),
        Some(drift("shop", "p", "/tmp/a")),
    ];
    let receipt = house.merger.merge(&mark, &sender, records).await.unwrap();
    assert_eq!(receipt.merged, 2);
    let mut reasons: Vec<&str> = receipt.refused.iter().map(|refused| refused.reason.into()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["foreign_pod", "out_of_bounds", "wrong_type"]);
    assert_eq!(house.held(), BTreeMap::from([("shop".to_owned(), 1)]));
    let [finding] = &house.store.stored()[..] else { panic!("one finding") };
    assert_eq!(finding.status.as_ref().unwrap().count, 2);
}
