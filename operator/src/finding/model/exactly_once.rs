//! The property: the count of a finding is the number of records sent about it.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use proptest::prelude::*;
use zastava_crds::wire::report::{BatchMark, BatchReceipt, Report};

use super::{
    pods::{FakePods, pod},
    records::drift,
    store::{Fault, MemoryStore},
};
use crate::{
    finding::{BatchError, Caps, FindingMetrics, Merger, attribute::Sender, mark::MAX_MARKS},
    nodes::NodeRegistry,
};

const OWN: &str = "zastava-system";
/// Pods by UID and Deployment: two in a namespace that is there, one in a namespace that is gone, one never seen.
const SUBJECTS: [(&str, &str); 4] = [("shop", "p0"), ("shop", "p1"), ("gone", "p2"), ("shop", "never")];

/// What happens to one batch.
#[derive(Clone, Debug)]
enum Fate {
    Fine,
    /// The receipt does not arrive.
    LostReceipt,
    /// Writes fail.
    Faults(Vec<Option<Fault>>),
    /// The handler is dropped after some steps.
    CutOff(usize),
}

#[derive(Clone, Debug)]
enum Op {
    /// A reporter sends its batch, the one in flight or a new one, to a replica.
    Send { reporter: usize, records: [u8; 4], replica: usize, fate: Fate },
    /// Two reporters at once.
    Both { records: [u8; 4], replicas: [usize; 2], fate: Fate },
    /// A replica forgets everything and sees nothing.
    Restart(usize),
    /// A replica's view becomes what is stored.
    CatchUp(usize),
    /// A reporter tells a replica of its last receipt.
    Confirm { reporter: usize, replica: usize },
    /// A reporter loses its journal.
    Journal(usize),
}

fn fate() -> impl Strategy<Value = Fate> {
    let fault = prop_oneof![Just(None), Just(Some(Fault::Before)), Just(Some(Fault::After))];
    prop_oneof![
        3 => Just(Fate::Fine),
        2 => Just(Fate::LostReceipt),
        3 => prop::collection::vec(fault, 1..6).prop_map(Fate::Faults),
        3 => (0..40_usize).prop_map(Fate::CutOff),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let records = || prop::array::uniform4(0..3_u8);
    prop_oneof![
        8 => (0..3_usize, records(), 0..2_usize, fate())
            .prop_map(|(reporter, records, replica, fate)| Op::Send { reporter, records, replica, fate }),
        3 => (records(), [0..2_usize, 0..2_usize], fate())
            .prop_map(|(records, replicas, fate)| Op::Both { records, replicas, fate }),
        2 => (0..2_usize).prop_map(Op::Restart),
        2 => (0..2_usize).prop_map(Op::CatchUp),
        2 => (0..3_usize, 0..2_usize).prop_map(|(reporter, replica)| Op::Confirm { reporter, replica }),
        1 => (0..3_usize).prop_map(Op::Journal),
    ]
}

#[derive(Default)]
struct Reporter {
    journal: u32,
    seq: u64,
    in_flight: Option<Vec<Report>>,
}

impl Reporter {
    fn mark(&self, number: usize, seq: u64) -> BatchMark {
        BatchMark { reporter: format!("node:{number}/{}", self.journal), seq }
    }
}

struct Replica {
    store: MemoryStore,
    nodes: NodeRegistry,
    merger: Merger<MemoryStore, FakePods>,
}

impl Replica {
    fn over(store: MemoryStore, pods: &FakePods) -> Self {
        let nodes = NodeRegistry::default();
        let caps = Caps::new(|_| 100);
        let metrics = FindingMetrics::default();
        let merger = Merger::new(store.clone(), pods.clone(), nodes.clone(), caps, OWN.to_owned(), metrics);
        Self { store, nodes, merger }
    }
}

struct World {
    pods: FakePods,
    replicas: Vec<Replica>,
    reporters: Vec<Reporter>,
    sent: BTreeMap<usize, u64>,
}

impl World {
    fn new() -> Self {
        let store = MemoryStore::default();
        store.end_namespace("gone");
        let pods = FakePods::default();
        for (namespace, uid) in &SUBJECTS[..3] {
            // One workload over all nodes: every reporter may speak of it.
            for node in 0..3 {
                pods.live(pod(namespace, &format!("{uid}-{node}"), &format!("n{node}"), uid));
            }
        }
        let replicas = vec![Replica::over(store.another(), &pods), Replica::over(store, &pods)];
        Self { pods, replicas, reporters: (0..3).map(|_| Reporter::default()).collect(), sent: BTreeMap::new() }
    }

    /// The batch that a reporter has in flight, made if there is none.
    fn batch(&mut self, reporter: usize, records: [u8; 4]) -> Option<(BatchMark, Sender, Vec<Option<Report>>)> {
        let number = reporter;
        let reporter = &mut self.reporters[number];
        if reporter.in_flight.is_none() {
            if records == [0; 4] {
                return None;
            }
            reporter.seq += 1;
            let mut all = Vec::new();
            for (subject, count) in records.into_iter().enumerate() {
                let (namespace, uid) = SUBJECTS[subject];
                let uid = if uid == "never" { uid.to_owned() } else { format!("{uid}-{number}") };
                for _ in 0..count {
                    all.push(drift(namespace, &uid, "/tmp/x"));
                }
                *self.sent.entry(subject).or_default() += u64::from(count);
            }
            reporter.in_flight = Some(all);
        }
        let records = reporter.in_flight.clone()?.into_iter().map(Some).collect();
        Some((reporter.mark(number, reporter.seq), Sender::Observer { node: format!("n{number}") }, records))
    }

    fn learn(&mut self, reporter: usize, result: Option<Result<BatchReceipt, BatchError>>) {
        if let Some(Ok(receipt)) = result {
            let reporter = &mut self.reporters[reporter];
            let all = reporter.in_flight.take().map_or(0, |records| records.len() as u64);
            assert_eq!((receipt.merged, receipt.refused), (all, Vec::new()));
        }
    }

    async fn send(&mut self, reporter: usize, records: [u8; 4], replica: usize, fate: Fate) {
        let Some((mark, sender, records)) = self.batch(reporter, records) else { return };
        let Replica { store, merger, .. } = &self.replicas[replica];
        if let Fate::Faults(faults) = &fate {
            store.script(faults.clone());
        }
        let result = run(merger.merge(&mark, &sender, records), &fate).await;
        store.script([]);
        self.learn(reporter, result.filter(|_| !matches!(fate, Fate::LostReceipt)));
    }

    async fn both(&mut self, records: [u8; 4], replicas: [usize; 2], fate: Fate) {
        let (Some(one), Some(two)) = (self.batch(0, records), self.batch(1, records)) else { return };
        let (a, b) = (&self.replicas[replicas[0]].merger, &self.replicas[replicas[1]].merger);
        let (one, two) =
            tokio::join!(run(a.merge(&one.0, &one.1, one.2), &fate), run(b.merge(&two.0, &two.1, two.2), &fate));
        let arrives = !matches!(fate, Fate::LostReceipt);
        self.learn(0, one.filter(|_| arrives));
        self.learn(1, two.filter(|_| arrives));
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Send { reporter, records, replica, fate } => self.send(reporter, records, replica, fate).await,
            Op::Both { records, replicas, fate } => Box::pin(self.both(records, replicas, fate)).await,
            Op::Restart(replica) => {
                let store = self.replicas[replica].store.another();
                self.replicas[replica] = Replica::over(store, &self.pods);
            }
            Op::CatchUp(replica) => self.replicas[replica].store.catch_up(),
            Op::Confirm { reporter: number, replica } => {
                let reporter = &self.reporters[number];
                let last = reporter.seq - u64::from(reporter.in_flight.is_some());
                if last > 0 {
                    self.replicas[replica].nodes.confirm(&reporter.mark(number, last));
                }
            }
            Op::Journal(reporter) => {
                let reporter = &mut self.reporters[reporter];
                if reporter.in_flight.is_none() {
                    reporter.journal += 1;
                    reporter.seq = 0;
                }
            }
        }
    }
}

/// Runs a merge to its end, or drops it on its way.
async fn run<T>(merge: impl Future<Output = T>, fate: &Fate) -> Option<T> {
    let Fate::CutOff(steps) = fate else { return Some(merge.await) };
    let mut merge = std::pin::pin!(merge);
    for _ in 0..*steps {
        if let std::task::Poll::Ready(result) = futures::poll!(merge.as_mut()) {
            return Some(result);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn story(ops: Vec<Op>) {
    let mut world = World::new();
    for op in ops {
        Box::pin(world.apply(op)).await;
    }
    // In the end every reporter gets its receipt.
    for reporter in 0..3 {
        for _ in 0..2 {
            if world.reporters[reporter].in_flight.is_some() {
                world.send(reporter, [0; 4], 0, Fate::Fine).await;
            }
        }
        assert!(world.reporters[reporter].in_flight.is_none(), "reporter {reporter} is stuck");
    }
    let mut counted = BTreeMap::new();
    for finding in world.replicas[0].store.stored() {
        let status = finding.status.clone().unwrap_or_default();
        let away = finding.namespace().as_deref() == Some(OWN);
        assert_eq!(status.unverified, away);
        assert!(!status.approximate);
        let subject = match (away, finding.spec.workload.name.as_str()) {
            (false, "p0") => 0,
            (false, "p1") => 1,
            (true, "gone/p2") => 2,
            (true, "shop/pod-never") => 3,
            (away, other) => panic!("{other} away: {away}"),
        };
        assert!(counted.insert(subject, status.count).is_none());
    }
    world.sent.retain(|_, count| *count > 0);
    // A finding may be made by a write whose batch then has nothing more to add to it, never the other way round.
    counted.retain(|_, count| *count > 0);
    assert_eq!(counted, world.sent);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_counted_once(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(story(ops));
    }
}

async fn report(replica: &Replica, node: usize, seq: u64) -> BatchReceipt {
    let mark = BatchMark { reporter: format!("node:{node}"), seq };
    let sender = Sender::Observer { node: "n0".to_owned() };
    replica.merger.merge(&mark, &sender, vec![Some(drift("shop", "p0-0", "/tmp/x"))]).await.unwrap()
}

fn only(replica: &Replica) -> zastava_crds::finding::RuntimeFindingStatus {
    let [finding] = &replica.store.stored()[..] else { panic!("one finding") };
    finding.status.clone().unwrap()
}

#[tokio::test]
async fn beyond_the_bound_on_marks_the_count_says_that_it_is_approximate() {
    let mut world = World::new();
    let first = world.replicas.remove(0);
    for node in 0..MAX_MARKS {
        report(&first, node, 1).await;
    }
    let full = only(&first);
    assert_eq!((full.count, full.marks.len(), full.approximate), (MAX_MARKS as u64, MAX_MARKS, false));
    // A confirmation of one makes room for one.
    first.nodes.confirm(&BatchMark { reporter: "node:5".to_owned(), seq: 1 });
    report(&first, MAX_MARKS, 1).await;
    assert!(!only(&first).approximate);
    report(&first, MAX_MARKS + 1, 1).await;
    let over = only(&first);
    assert_eq!((over.count, over.marks.len(), over.approximate), (MAX_MARKS as u64 + 2, MAX_MARKS, true));
    // The pushed-out batch comes again to another leader: that is the double count the word warns of.
    report(&world.replicas[0], 0, 1).await;
    assert_eq!(only(&first).count, MAX_MARKS as u64 + 3);
}

#[tokio::test]
async fn a_webhook_that_is_gone_confirms_its_marks() {
    let mut world = World::new();
    let replica = world.replicas.remove(0);
    for node in 0..MAX_MARKS {
        report(&replica, node, 1).await;
    }
    world.pods.over("node:3");
    report(&replica, MAX_MARKS, 1).await;
    let status = only(&replica);
    assert!(!status.approximate && status.marks.iter().all(|mark| mark.reporter != "node:3"));
}

#[tokio::test]
async fn a_repeat_from_before_a_later_batch_is_not_merged() {
    let world = World::new();
    let replica = &world.replicas[0];
    report(replica, 0, 1).await;
    report(replica, 0, 2).await;
    let mark = BatchMark { reporter: "node:0".to_owned(), seq: 1 };
    let sender = Sender::Observer { node: "n0".to_owned() };
    let records = vec![Some(drift("shop", "p1-0", "/tmp/x"))];
    let repeated = replica.merger.merge(&mark, &sender, records).await;
    assert!(matches!(repeated, Err(BatchError::Superseded { latest: 2, .. })));
    assert_eq!(only(replica).count, 2);
}

#[tokio::test]
async fn while_pods_cannot_be_looked_up_nothing_is_judged() {
    let world = World::new();
    world.pods.away(true);
    let mark = BatchMark { reporter: "node:0".to_owned(), seq: 1 };
    let sender = Sender::Observer { node: "n0".to_owned() };
    let records = || vec![Some(drift("shop", "p1-0", "/tmp/x"))];
    let replica = &world.replicas[0];
    assert!(matches!(replica.merger.merge(&mark, &sender, records()).await, Err(BatchError::Pods(_))));
    assert!(replica.store.stored().is_empty());
    world.pods.away(false);
    assert_eq!(replica.merger.merge(&mark, &sender, records()).await.unwrap().merged, 1);
}
