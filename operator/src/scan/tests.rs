//! Scans with a source that says what the test wants.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use tokio::sync::Notify;
use zastava_crds::{
    digest::{DigestKind, ImageDigest, Sha256Digest},
    finding::{Evidence, RuntimeFindingStatus, ScanPhase, ScanStatus, ScanVerdict, StoredMark},
    policy::ZastavaPolicy,
};

use super::{
    decide::{Memory, decide, pause},
    delta::Delta,
    outcome::{Answer, MAX_ATTEMPTS},
    source::{SbomSource, Unavailable},
    terms::Terms,
    worker::Worker,
};
use crate::finding::{FindingMetrics, model::store::MemoryStore, store::FindingStore as _};

type Said = Result<Answer, Unavailable>;
type Meanwhile = Box<dyn FnOnce() + Send>;

/// Says what it was told to, then `Unknown`; counts; waits at its gate if there is one.
#[derive(Clone, Default)]
struct Script {
    says: Arc<Mutex<VecDeque<Said>>>,
    asked: Arc<Mutex<Vec<Delta>>>,
    gate: Option<Arc<Notify>>,
    /// Done to the findings while the source works.
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

impl Script {
    fn saying(says: impl IntoIterator<Item = Said>) -> Self {
        Self { says: Arc::new(Mutex::new(says.into_iter().collect())), ..Self::default() }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl SbomSource for Script {
    async fn judge(&self, delta: &Delta, _: Option<&str>) -> Said {
        self.asked.lock().unwrap().push(delta.clone());
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        self.says.lock().unwrap().pop_front().unwrap_or(Ok(Answer::Unknown))
    }
}

fn content(text: &str) -> Sha256Digest {
    Sha256Digest::of(text.as_bytes())
}

fn terms() -> Terms {
    let policy = |name: &str, spec| Arc::new(ZastavaPolicy::new(name, serde_json::from_value(spec).unwrap()));
    Terms::of(&[
        policy("baseline", serde_json::json!({"runtime": {}})),
        policy("quiet", serde_json::json!({"runtime": {}, "scan": {"on": []}})),
        policy("suspended", serde_json::json!({"runtime": {}, "suspend": true})),
    ])
}

/// A finding of drift with this content, seen now.
fn drift(content_: &str) -> RuntimeFindingStatus {
    RuntimeFindingStatus {
        count: 3,
        last_seen: Some(Time(Timestamp::now())),
        policies: vec!["baseline".to_owned()],
        image: Some("registry.example/shop/web:1".to_owned()),
        digests: vec![
            ImageDigest { kind: DigestKind::Config, digest: content("config") },
            ImageDigest { kind: DigestKind::Unresolved, digest: content("image") },
        ],
        evidence: Some(Evidence { sha256: Some(content(content_)), ..Evidence::default() }),
        marks: vec![StoredMark { reporter: "node:a".to_owned(), seq: 4 }],
        ..RuntimeFindingStatus::default()
    }
}

fn worker(store: &MemoryStore, source: &Script) -> Worker<MemoryStore, Script> {
    Worker::new(store.clone(), source.clone(), FindingMetrics::default())
}

fn scan(store: &MemoryStore, name: &str) -> ScanStatus {
    status(store, name).scan.unwrap()
}

fn status(store: &MemoryStore, name: &str) -> RuntimeFindingStatus {
    let stored = store.stored();
    stored.into_iter().find(|finding| finding.name_any() == name).unwrap().status.unwrap()
}

fn down() -> Said {
    Err(Unavailable { category: "unreachable", message: "registry.example is down".to_owned(), retry_after: None })
}

fn after(duration: Duration) -> Timestamp {
    Timestamp::now() + duration
}

#[tokio::test]
async fn drift_is_asked_about_and_answered_in_its_finding_beside_its_counts() {
    let store = MemoryStore::default();
    store.insert("f", drift("evil"));
    let expected = content("good");
    let source = Script::saying([Ok(Answer::Modified {
        component: Some("pkg:deb/debian/bash@5".to_owned()),
        expected: expected.clone(),
    })]);
    let mut worker = worker(&store, &source);
    worker.look(&terms(), Timestamp::now());
    worker.finished().await;
    let done = scan(&store, "f");
    assert_eq!(
        (done.phase, done.verdict, done.summary.as_str()),
        (ScanPhase::Done, Some(ScanVerdict::Modified), "Modified")
    );
    assert_eq!((done.attempts, done.sha256), (1, Some(content("evil"))));
    assert_eq!(done.component.as_deref(), Some("pkg:deb/debian/bash@5"));
    assert!(done.message.unwrap().contains(expected.as_str()));
    let asked = source.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.path.as_str(), asked.digest), ("/tmp/x", Some(content("image"))), "a config is in no registry");
    assert_eq!(RuntimeFindingStatus { scan: None, ..status(&store, "f") }.count, 3);
    // Known content is asked about once.
    assert_eq!(worker.look(&terms(), after(Duration::from_hours(24))), None);
    assert_eq!((source.asked(), store.writes()), (1, 2));
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_nothing() {
    let store = MemoryStore::default();
    store.insert("f", drift("evil"));
    let stuck = Script { gate: Some(Arc::new(Notify::new())), ..Script::default() };
    let mut first = worker(&store, &stuck);
    first.look(&terms(), Timestamp::now());
    while stuck.asked() == 0 {
        tokio::task::yield_now().await;
    }
    drop(first);
    let pending = scan(&store, "f");
    assert_eq!((pending.phase, pending.summary.as_str(), pending.attempts), (ScanPhase::Pending, "Pending", 0));
    let view = store.another();
    view.catch_up();
    let source = Script::saying([Ok(Answer::Known { component: None, listed_at: None })]);
    let mut second = worker(&view, &source);
    second.look(&terms(), Timestamp::now());
    second.finished().await;
    let done = scan(&store, "f");
    assert_eq!((done.verdict, done.requested_at), (Some(ScanVerdict::Known), pending.requested_at));
}

#[tokio::test]
async fn while_the_registry_is_down_the_scan_stays_pending_with_growing_pauses_and_ends_after_so_many() {
    let store = MemoryStore::default();
    store.insert("f", drift("evil"));
    let source = Script::saying((0..MAX_ATTEMPTS).map(|_| down()));
    let mut worker = worker(&store, &source);
    worker.look(&terms(), Timestamp::now());
    worker.finished().await;
    let pending = scan(&store, "f");
    assert_eq!((pending.phase, pending.attempts), (ScanPhase::Pending, 1));
    assert_eq!(pending.message.as_deref(), Some("registry.example is down"));
    let next = worker.look(&terms(), Timestamp::now()).unwrap();
    assert!(next > after(Duration::from_secs(2)) && next <= after(pause(1)), "{next}");
    assert_eq!(source.asked(), 1);
    for attempt in 2..=MAX_ATTEMPTS {
        worker.look(&terms(), after(Duration::from_hours(24)));
        worker.finished().await;
        assert_eq!(scan(&store, "f").attempts, attempt);
    }
    let failed = scan(&store, "f");
    assert_eq!((failed.phase, failed.summary.as_str()), (ScanPhase::Failed, "Failed"));
    assert!(failed.finished_at.is_some());
    worker.look(&terms(), after(Duration::from_hours(24)));
    assert_eq!(source.asked(), MAX_ATTEMPTS as usize);
    let total: Duration = (0..MAX_ATTEMPTS).map(pause).sum();
    assert!(total > Duration::from_hours(1) && total < Duration::from_hours(2), "{total:?}");
}

#[tokio::test]
async fn equal_deltas_share_one_scan_also_later_within_the_cooldown() {
    let store = MemoryStore::default();
    for name in ["a", "b", "c"] {
        store.insert(name, drift("evil"));
    }
    store.insert("other", drift("else"));
    let source = Script::default();
    let mut worker = worker(&store, &source);
    worker.look(&terms(), Timestamp::now());
    worker.finished().await;
    worker.finished().await;
    assert_eq!(source.asked(), 2);
    for name in ["a", "b", "c", "other"] {
        assert_eq!(scan(&store, name).phase, ScanPhase::Done, "{name}");
    }
    store.insert("late", drift("evil"));
    worker.look(&terms(), after(Duration::from_mins(1)));
    worker.finished().await;
    assert_eq!(source.asked(), 2);
    let made = ["a", "b", "c"].map(|name| scan(&store, name).finished_at);
    assert!(made.contains(&scan(&store, "late").finished_at), "the answer keeps the time of its scan");
    store.insert("later", drift("evil"));
    worker.look(&terms(), after(Duration::from_secs(601)));
    worker.finished().await;
    assert_eq!(source.asked(), 3);
}

#[tokio::test]
async fn other_content_asks_anew_and_an_answer_about_the_old_is_not_written_over_it() {
    let store = MemoryStore::default();
    store.insert("f", drift("one"));
    let source = Script::saying([Ok(Answer::Known { component: None, listed_at: None })]);
    let changing = store.clone();
    *source.meanwhile.lock().unwrap() = Some(Box::new(move || {
        // The content changes, and another look asks about it, while the first answer is on its way.
        let mut changed = drift("two");
        changed.scan = Some(super::outcome::pending(Some(content("two")), Timestamp::now()));
        changing.insert("f", changed);
    }));
    let mut worker = worker(&store, &source);
    worker.look(&terms(), Timestamp::now());
    worker.finished().await;
    assert_eq!((scan(&store, "f").phase, scan(&store, "f").sha256), (ScanPhase::Pending, Some(content("two"))));
    worker.look(&terms(), Timestamp::now());
    worker.finished().await;
    assert_eq!(
        (scan(&store, "f").verdict, scan(&store, "f").sha256),
        (Some(ScanVerdict::Unknown), Some(content("two")))
    );
    store.insert("f", RuntimeFindingStatus { scan: Some(scan(&store, "f")), ..drift("three") });
    worker.look(&terms(), Timestamp::now());
    worker.finished().await;
    assert_eq!(scan(&store, "f").sha256, Some(content("three")));
    assert_eq!(source.asked(), 3);
}

#[tokio::test]
async fn neither_the_counts_nor_the_scan_lose_a_write_to_the_other() {
    let store = MemoryStore::default();
    store.insert("f", drift("evil"));
    let other = store.another();
    let source = Script::default();
    *source.meanwhile.lock().unwrap() = Some(Box::new(move || other.change("shop", "f", |status| status.count = 4)));
    let mut worker = worker(&store, &source);
    worker.look(&terms(), Timestamp::now());
    worker.finished().await;
    let after = status(&store, "f");
    assert_eq!((after.count, after.scan.unwrap().phase), (4, ScanPhase::Done));
    assert_eq!(after.marks, drift("evil").marks);
}

#[tokio::test]
async fn without_an_answer_seen_again_after_the_cooldown_is_asked_again() {
    let store = MemoryStore::default();
    let finished = Timestamp::now();
    let silent = |scan: ScanStatus, seen: Duration| {
        let mut status = drift("evil");
        status.last_seen = Some(Time(finished + seen));
        status.scan = Some(scan);
        status
    };
    let pending = super::outcome::pending(Some(content("evil")), finished);
    let unknown = super::outcome::done(&pending, &Answer::Silent("no SBOM".to_owned()), finished);
    let known = super::outcome::done(&pending, &Answer::Known { component: None, listed_at: None }, finished);
    store.insert("a-seen", silent(unknown.clone(), Duration::from_mins(10)));
    store.insert("b-not-seen", silent(unknown, Duration::from_secs(599)));
    store.insert("c-known", silent(known, Duration::from_secs(9_999)));
    let decision = decide(&store.all(), &terms(), &Memory::default(), finished + Duration::from_secs(700));
    let members: Vec<_> = decision.jobs.iter().flat_map(|job| &job.members).map(|place| place.name.as_str()).collect();
    assert_eq!(members, ["a-seen"]);
}

#[tokio::test]
async fn only_drift_of_a_policy_in_force_that_asks_for_scans_is_scanned() {
    let store = MemoryStore::default();
    for (name, policies) in [
        ("quiet", vec!["quiet"]),
        ("suspended", vec!["suspended"]),
        ("gone", vec!["gone"]),
        ("one-asks", vec!["quiet", "baseline"]),
    ] {
        let policies = policies.into_iter().map(str::to_owned).collect();
        store.insert(name, RuntimeFindingStatus { policies, ..drift("evil") });
    }
    store.insert("uncounted", RuntimeFindingStatus { evidence: None, ..drift("evil") });
    let decision = decide(&store.all(), &terms(), &Memory::default(), Timestamp::now());
    let members: Vec<_> = decision.jobs.iter().flat_map(|job| &job.members).map(|place| place.name.as_str()).collect();
    assert_eq!(members, ["one-asks"]);
}
