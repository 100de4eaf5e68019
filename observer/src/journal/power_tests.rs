//! Loss of power at every change that a journal makes to its files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use tempfile::TempDir;

use super::{
    Appended, BatchBound, Journal, JournalError, Limits,
    clock::Clock,
    dice::{Dice, seeds},
    disk::Disk,
    platter::{Event, Left, Platter, Recorder},
    tests::{READER, SEVERITIES, id, memory, number, small, stream},
};

const BOUND: BatchBound = BatchBound { records: 12, bytes: 4096, overhead: 16 };

/// What the test knows at a point of the trace.
#[derive(Clone, Debug)]
enum Mark {
    /// This record is about to be appended.
    Tried(u64),
    /// It was appended, or refused and counted.
    Settled(u64),
    /// All that was settled before survives.
    Durable,
    /// The batch may have arrived.
    Sent(Told),
    /// It has.
    Arrived,
}

#[derive(Clone, Debug)]
struct Told {
    mark: (String, u64),
    records: Vec<u64>,
    lost: u64,
}

fn told(journal: &Journal) -> Option<Told> {
    let batch = journal.begin(READER, BOUND).unwrap()?;
    for payload in &batch.payloads {
        assert_eq!(payload, &text(number(payload)), "a record that nobody appended");
    }
    let records = batch.payloads.iter().map(|payload| number(payload)).collect();
    let lost = batch.losses.values().map(|window| window.count).sum();
    Some(Told { mark: (journal.name(), batch.seq), records, lost })
}

fn text(n: u64) -> String {
    format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(usize::try_from(n * 7919 % 230).unwrap()))
}

/// Whoever takes batches: each mark once, as the intake does.
#[derive(Clone, Debug, Default)]
struct Receiver {
    latest: BTreeMap<String, u64>,
    records: Vec<u64>,
    lost: u64,
}

impl Receiver {
    fn take(&mut self, told: &Told) {
        let latest = self.latest.entry(told.mark.0.clone()).or_default();
        if told.mark.1 > *latest {
            *latest = told.mark.1;
            self.records.extend(&told.records);
            self.lost += told.lost;
        }
    }
}

/// A life of a journal that sees this many severities, with ends of its process.
fn trace(folder: &Path, limits: Limits, severities: u64, seed: u64, steps: u64) -> Vec<Event<Mark>> {
    let recorder = Arc::new(Recorder::default());
    let mut dice = Dice::new(seed);
    let open = || {
        let outside = (Disk::watched(recorder.clone()), Clock::default());
        Journal::open_on(outside, folder, limits, &[READER], "boot").unwrap().0
    };
    let mut journal = open();
    let (mut next, mut sent) = (0, None);
    for _ in 0..steps {
        match dice.below(24) {
            0..16 => {
                recorder.mark(Mark::Tried(next));
                let severity = SEVERITIES[usize::try_from(dice.below(severities)).unwrap()];
                let outcome = journal.append(stream(severity), id(next), &text(next));
                assert!(matches!(outcome, Ok(Appended::Stored) | Err(JournalError::Full)), "{outcome:?}");
                recorder.mark(Mark::Settled(next));
                next += 1;
            }
            16..19 => {
                sent = told(&journal);
                recorder.mark(Mark::Durable);
                if let Some(sent) = &sent {
                    recorder.mark(Mark::Sent(sent.clone()));
                }
            }
            19..22 => {
                if let Some(Told { mark: (_, seq), .. }) = sent.take() {
                    recorder.mark(Mark::Arrived);
                    journal.acknowledge(READER, seq).unwrap();
                }
            }
            22 => {
                journal.sync().unwrap();
                recorder.mark(Mark::Durable);
            }
            _ => {
                drop(journal);
                journal = open();
            }
        }
    }
    drop(journal);
    std::mem::take(&mut recorder.0.lock().unwrap())
}

/// What must be true of a journal that was cut.
#[derive(Clone, Debug, Default)]
struct Known {
    tried: u64,
    settled: BTreeSet<u64>,
    durable: BTreeSet<u64>,
    receiver: Receiver,
    on_its_way: Option<Told>,
}

impl Known {
    fn learn(&mut self, mark: &Mark) {
        match mark {
            Mark::Tried(n) => self.tried = n + 1,
            Mark::Settled(n) => drop(self.settled.insert(*n)),
            Mark::Durable => self.durable.clone_from(&self.settled),
            Mark::Sent(told) => self.on_its_way = Some(told.clone()),
            Mark::Arrived => {
                let told = self.on_its_way.take().unwrap();
                self.receiver.take(&told);
            }
        }
    }

    fn check(&self, folder: &Path, limits: Limits, roomy: bool, arrived: bool) {
        let mut receiver = self.receiver.clone();
        if let Some(told) = self.on_its_way.as_ref().filter(|_| arrived) {
            receiver.take(told);
        }
        let (journal, recovery) = Journal::open(folder, limits, &[READER], "boot").unwrap();
        // The very first state may be cut short: nothing went out under its name.
        assert!(!recovery.state_lost || self.durable.is_empty() && self.receiver.latest.is_empty());
        let mut first = true;
        while let Some(told) = told(&journal) {
            if let Some(sent) = self.on_its_way.as_ref().filter(|sent| first && sent.mark == told.mark) {
                assert_eq!(told.records, sent.records, "other records under the same mark");
            }
            first = false;
            receiver.take(&told);
            journal.acknowledge(READER, told.mark.1).unwrap();
        }
        let unique: BTreeSet<u64> = receiver.records.iter().copied().collect();
        assert_eq!(unique.len(), receiver.records.len(), "a record twice");
        if roomy {
            assert!(self.durable.is_subset(&unique), "missing: {:?}", self.durable.difference(&unique));
        }
        let sum = unique.len() as u64 + receiver.lost;
        assert!(sum >= self.durable.len() as u64, "{sum} told or lost of {} that were durable", self.durable.len());
        assert!(sum <= self.tried, "{} told and {} lost of {} in all", unique.len(), receiver.lost, self.tried);
    }
}

/// Cuts `events`, a journal's life in `folder`, at each change that `asked` names.
fn cut(folder: &Path, events: &[Event<Mark>], asked: impl Fn(usize) -> bool, limits: Limits, roomy: bool, seed: u64) {
    let (mut platter, mut known) = (Platter::default(), Known::default());
    let mut dice = Dice::new(!seed);
    for (at, event) in events.iter().enumerate() {
        if let Event::Mark(mark) = event {
            known.learn(mark);
            continue;
        }
        let all = [Left::All, Left::None, Left::Any, Left::AnyNames];
        for left in all.into_iter().filter(|_| asked(at)) {
            let mut torn = platter.clone();
            torn.apply(event, Some(&mut dice));
            let copy = TempDir::new_in(memory()).unwrap();
            torn.leave(left, &mut dice, folder, copy.path());
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                known.check(copy.path(), limits, roomy, dice.once_in(2));
            }));
            assert!(checked.is_ok(), "seed {seed}, cut in change {at} of {}: {event:?}, {left:?} left", events.len());
        }
        platter.apply(event, None);
    }
}

#[test]
fn power_lost_at_any_write_what_was_synced_is_there_once() {
    let roomy = Limits { total_bytes: 1 << 20, ..small() };
    for seed in seeds(3) {
        let folder = TempDir::new_in(memory()).unwrap();
        let events = trace(folder.path(), roomy, 5, seed, 100);
        cut(folder.path(), &events, |_| true, roomy, true, seed);
    }
}

#[test]
fn power_lost_when_what_was_acknowledged_leaves_it_is_not_told_as_lost() {
    let roomy = Limits { total_bytes: 1 << 20, ..small() };
    for seed in seeds(2) {
        let folder = TempDir::new_in(memory()).unwrap();
        // The last 256 records of a stream stay, so one stream has to grow.
        let events = trace(folder.path(), roomy, 1, seed, 900);
        let leaves = |at: &usize| matches!(events[*at], Event::Remove(_));
        let removals = (0..events.len()).filter(leaves).collect::<Vec<_>>();
        assert!(removals.len() > 3, "nothing left");
        let asked = |at| removals.iter().any(|&removal| removal <= at && at < removal + 3);
        cut(folder.path(), &events, asked, roomy, true, seed);
    }
}

#[test]
fn power_lost_at_any_write_while_records_are_evicted_each_is_there_or_counted() {
    for seed in seeds(3) {
        let folder = TempDir::new_in(memory()).unwrap();
        let events = trace(folder.path(), small(), 5, seed, 160);
        cut(folder.path(), &events, |_| true, small(), false, seed);
    }
}
