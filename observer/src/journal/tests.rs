use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;
use zastava_crds::wire::event::{LossReason, Severity};

use super::{
    Appended, Batch, BatchBound, CursorName, Journal, JournalError, Limits, Recovery, Stream, cursor::LossKey, slots,
};
use crate::pipeline::Lane;

pub(super) const READER: CursorName = CursorName::Report;
pub(super) const BOUND: BatchBound = BatchBound { records: 50, bytes: 64 * 1024, overhead: 16 };

pub(super) fn small() -> Limits {
    Limits {
        total_bytes: 16 * 1024,
        segment_bytes: 2048,
        record_bytes: 1024,
        age: Duration::from_hours(1),
        sync_bytes: 1024,
        sync_interval: Duration::from_secs(1),
    }
}

pub(super) fn open(folder: &Path, limits: Limits) -> (Journal, Recovery) {
    Journal::open(folder, limits, &[READER], "boot").unwrap()
}

pub(super) fn stream(severity: Severity) -> Stream {
    Stream { severity, lane: Lane::from(severity) }
}

/// Where files that need no disk are made.
pub(super) fn memory() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

pub(super) fn id(n: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    id
}

pub(super) fn put(journal: &Journal, severity: Severity, n: u64) -> Result<Appended, JournalError> {
    journal.append(stream(severity), id(n), &format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(100)))
}

pub(super) fn number(payload: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(payload).unwrap()["n"].as_u64().unwrap()
}

pub(super) fn numbers(batch: &Batch) -> Vec<u64> {
    batch.payloads.iter().map(|payload| number(payload)).collect()
}

/// Everything that is left, acknowledged batch by batch.
pub(super) fn drain(journal: &Journal) -> (Vec<u64>, u64) {
    let (mut all, mut lost) = (Vec::new(), 0);
    while let Some(batch) = journal.begin(READER, BOUND).unwrap() {
        all.extend(numbers(&batch));
        lost += batch.losses.values().map(|window| window.count).sum::<u64>();
        journal.acknowledge(READER, batch.seq).unwrap();
    }
    (all, lost)
}

#[test]
fn the_most_severe_goes_first_and_each_stream_in_order() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path(), small());
    for n in 0..4 {
        put(&journal, Severity::Low, n).unwrap();
        put(&journal, Severity::Critical, 100 + n).unwrap();
    }
    assert_eq!(journal.pending(READER), 8);
    assert_eq!(drain(&journal), (vec![100, 101, 102, 103, 0, 1, 2, 3], 0));
    assert_eq!(journal.pending(READER), 0);
}

#[test]
fn a_batch_without_receipt_is_sent_again_as_it_was_and_seq_rises_by_one() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path(), small());
    let name = journal.name();
    for n in 0..3 {
        put(&journal, Severity::High, n).unwrap();
    }
    let first = journal.begin(READER, BOUND).unwrap().unwrap();
    put(&journal, Severity::Critical, 9).unwrap();
    assert_eq!(journal.begin(READER, BOUND).unwrap().unwrap(), first);
    drop(journal);
    let (journal, _) = open(folder.path(), small());
    assert_eq!(journal.begin(READER, BOUND).unwrap().unwrap(), first);
    assert!(matches!(journal.acknowledge(READER, first.seq + 1), Err(JournalError::NotInFlight { .. })));
    journal.acknowledge(READER, first.seq).unwrap();
    let second = journal.begin(READER, BOUND).unwrap().unwrap();
    assert_eq!((second.seq, numbers(&second)), (first.seq + 1, vec![9]));
    assert_eq!(journal.name(), name);
}

#[test]
fn a_repeat_after_a_restart_is_known_by_its_id() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path(), small());
    assert_eq!(put(&journal, Severity::High, 1).unwrap(), Appended::Stored);
    drop(journal);
    let (journal, recovery) = open(folder.path(), small());
    assert_eq!(recovery, Recovery { records: 1, ..Recovery::default() });
    assert_eq!(put(&journal, Severity::High, 1).unwrap(), Appended::Repeat);
    assert_eq!(drain(&journal), (vec![1], 0));
}

#[test]
fn a_second_observer_is_kept_out() {
    let folder = TempDir::new().unwrap();
    let (_journal, _) = open(folder.path(), small());
    let second = Journal::open(folder.path(), small(), &[READER], "boot");
    assert!(matches!(second, Err(JournalError::InUse { .. })));
}

#[test]
fn the_mildest_and_oldest_is_evicted_first_and_told() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path(), small());
    for n in 0..10 {
        put(&journal, Severity::Low, n).unwrap();
        put(&journal, Severity::High, 1000 + n).unwrap();
    }
    for n in 10..200 {
        put(&journal, Severity::High, 1000 + n).unwrap();
    }
    assert!(journal.bytes() <= small().total_bytes);
    // Nothing milder is left: the milder newcomer is refused, and told as lost.
    assert!(matches!(put(&journal, Severity::Low, 10), Err(JournalError::Full)));
    let (left, lost) = drain(&journal);
    assert!(left.iter().all(|&n| n >= 1000), "low severity survived high");
    assert_eq!(left.last(), Some(&1199), "the newest stays");
    assert_eq!(left.len() as u64 + lost, 211, "what is not here is counted");
}

#[test]
fn a_batch_on_its_way_holds_its_records_while_others_are_evicted() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path(), small());
    for n in 0..5 {
        put(&journal, Severity::Low, n).unwrap();
    }
    let batch = journal.begin(READER, BOUND).unwrap().unwrap();
    for n in 5..400 {
        put(&journal, Severity::Low, n).unwrap();
    }
    drop(journal);
    let (journal, _) = open(folder.path(), small());
    assert_eq!(journal.begin(READER, BOUND).unwrap().unwrap(), batch);
    journal.acknowledge(READER, batch.seq).unwrap();
    let (left, lost) = drain(&journal);
    assert_eq!(left.len() as u64 + lost + 5, 400);
    assert_eq!(left.last(), Some(&399));
}

#[test]
fn losses_are_told_once_and_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path(), small());
    let now = jiff::Timestamp::now();
    let window = super::LossWindow { count: 7, from: now, until: now };
    journal.lose(LossReason::RingFull, window).unwrap();
    drop(journal);
    let (journal, _) = open(folder.path(), small());
    let batch = journal.begin(READER, BOUND).unwrap().unwrap();
    assert_eq!(batch.losses.get(&LossKey(LossReason::RingFull)), Some(&window));
    journal.lose(LossReason::RingFull, window).unwrap();
    assert_eq!(journal.begin(READER, BOUND).unwrap().unwrap(), batch, "a batch on its way does not change");
    journal.acknowledge(READER, batch.seq).unwrap();
    assert_eq!(drain(&journal), (vec![], 7));
}

#[test]
fn a_lost_state_begins_again_under_another_name() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path(), small());
    put(&journal, Severity::High, 1).unwrap();
    let name = journal.name();
    drop(journal);
    fs::write(folder.path().join(slots::FILE), vec![0xAA; 2 * slots::SLOT]).unwrap();
    let (journal, recovery) = open(folder.path(), small());
    assert!(recovery.state_lost);
    assert_ne!(journal.name(), name);
    assert_eq!(drain(&journal), (vec![1], 0));
}

#[test]
fn limits_that_leave_no_room_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let limits = Limits { total_bytes: 4096, ..small() };
    let error = Journal::open(folder.path(), limits, &[READER], "boot").unwrap_err();
    assert_eq!(error.to_string(), "journal: totalBytes is 4096: use four times segmentBytes or more");
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Begin,
    Acknowledge,
    Sync,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0u8..5).prop_map(Step::Append),
        2 => Just(Step::Begin),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..300)
}

pub(super) const SEVERITIES: [Severity; 5] =
    [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_each_record_is_told_once_or_counted(steps in steps()) {
        let folder = TempDir::new().unwrap();
        let mut journal = open(folder.path(), small()).0;
        let (mut appended, mut told, mut lost) = (0u64, Vec::new(), 0u64);
        let mut in_flight: Option<Batch> = None;
        let mut seq = 0;
        for step in steps {
            match step {
                Step::Append(severity) => {
                    let outcome = put(&journal, SEVERITIES[usize::from(severity)], appended);
                    prop_assert!(matches!(outcome, Ok(Appended::Stored) | Err(JournalError::Full)));
                    appended += 1;
                }
                Step::Begin => {
                    let batch = journal.begin(READER, BOUND).unwrap();
                    if let (Some(before), Some(now)) = (&in_flight, &batch) {
                        prop_assert_eq!(before, now);
                    }
                    if let (None, Some(now)) = (&in_flight, &batch) {
                        prop_assert_eq!(now.seq, seq + 1);
                        seq = now.seq;
                    }
                    in_flight = batch;
                }
                Step::Acknowledge => {
                    if let Some(batch) = in_flight.take() {
                        journal.acknowledge(READER, batch.seq).unwrap();
                        told.extend(numbers(&batch));
                        lost += batch.losses.values().map(|window| window.count).sum::<u64>();
                    }
                }
                Step::Sync => journal.sync().unwrap(),
                Step::Reopen => {
                    drop(journal);
                    journal = open(folder.path(), small()).0;
                }
            }
        }
        let (rest, rest_lost) = drain(&journal);
        told.extend(rest);
        let unique: BTreeSet<u64> = told.iter().copied().collect();
        prop_assert_eq!(unique.len(), told.len());
        prop_assert_eq!(told.len() as u64 + lost + rest_lost, appended);
        prop_assert_eq!(journal.pending(READER), 0);
    }
}
