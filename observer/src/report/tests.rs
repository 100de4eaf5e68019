//! Exactly once, against a model of the intake.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::Notify;
use zastava_core::intake::{Retry, RetryReason};
use zastava_crds::wire::{
    event::{EventDetail, LossReason, Severity},
    report::{Problem, Refused, RefusedReason, Report, ReportBatch},
};

use super::*;
use crate::{
    fixtures::{self, drift},
    journal::{Limits, LossWindow},
    pipeline::{Lane, Store as _},
    sink::{JournalSink, SinkMetrics},
};

/// How the model answers one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Counts it and says so.
    Take,
    /// Counts it, and the receipt is lost: the leader died after its write, or the network did.
    TakeSilently,
    /// Does not lead.
    Retry,
    /// Takes it, refusing one record.
    Cap,
    /// Refuses it for good.
    Refuse,
    /// Counts it, and the reporter's program dies before the receipt arrives.
    Crash,
}

/// Adds each batch once, as the intake promises.
#[derive(Clone, Default)]
struct Model(Arc<Mutex<Kept>>, Arc<Notify>);

#[derive(Default)]
struct Kept {
    script: VecDeque<Answer>,
    // By reporter: the last batch that was added.
    added: HashMap<String, u64>,
    bodies: BTreeMap<u64, Bytes>,
    events: BTreeMap<String, u64>,
    lost: BTreeMap<&'static str, u64>,
    requests: usize,
}

impl Model {
    fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.0.lock().unwrap().script.extend(answers);
    }

    /// How often each event was counted.
    fn events(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().events.clone()
    }

    fn add(&self, mark: &BatchMark, body: &Bytes) -> (Answer, u64) {
        let batch: ReportBatch = serde_json::from_slice(body).unwrap();
        assert_eq!(batch.mark, *mark);
        let mut kept = self.0.lock().unwrap();
        kept.requests += 1;
        let answer = kept.script.pop_front().unwrap_or(Answer::Take);
        // What is sent under one mark is the same for ever.
        assert_eq!(kept.bodies.entry(mark.seq).or_insert_with(|| body.clone()), body);
        let last = kept.added.entry(mark.reporter.clone()).or_default();
        assert!(mark.seq == *last || mark.seq == *last + 1, "batch {} after {last}", mark.seq);
        if matches!(answer, Answer::Retry | Answer::Refuse) || *last == mark.seq {
            if answer == Answer::Refuse {
                *last = mark.seq;
            }
            return (answer, 0);
        }
        *last = mark.seq;
        let merged = batch.records.len() as u64;
        for record in batch.records {
            let Report::Runtime(event) = record else { panic!("not of an observer") };
            match event.detail {
                EventDetail::Lost { reason, count, .. } => *kept.lost.entry(reason.into()).or_default() += count,
                _ => *kept.events.entry(event.event_id.0).or_default() += 1,
            }
        }
        (answer, merged)
    }
}

impl Intake for Model {
    async fn report(&self, mark: &BatchMark, body: Bytes) -> Outcome<BatchReceipt> {
        let (answer, merged) = self.add(mark, &body);
        let taken = |refused| Outcome::Taken(BatchReceipt { mark: mark.clone(), merged, refused });
        let retry = |reason| Outcome::Retry(Retry { reason, detail: "scripted".to_owned(), after: None });
        match answer {
            Answer::Take => taken(Vec::new()),
            Answer::Cap => taken(vec![Refused { reason: RefusedReason::Capped, count: 1 }]),
            Answer::TakeSilently => retry(RetryReason::Unreachable),
            Answer::Retry => retry(RetryReason::NoLeader),
            Answer::Refuse => Outcome::Refused(Problem { title: "no".to_owned(), detail: None, status: 400 }),
            Answer::Crash => {
                self.1.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// One life of the program, from opening the journal on.
struct Life {
    journal: Journal,
    task: tokio::task::JoinHandle<()>,
    progress: watch::Receiver<Progress>,
}

impl Life {
    async fn start(folder: &Path, model: &Model) -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        // A blocking call of the life before may still hold the files: the lock of a killed process goes with it.
        let journal = loop {
            match Journal::open(folder, Limits::default(), &[CURSOR], fixtures::BOOT) {
                Ok((journal, _)) => break journal,
                Err(JournalError::InUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let reporter = Reporter::new(journal.clone(), model.clone(), "n1", ReportMetrics::default(), sender);
        Self { journal, task: tokio::spawn(reporter.run(CancellationToken::new())), progress }
    }

    async fn append(&self, events: std::ops::Range<u64>) {
        let sink = JournalSink::new(self.journal.clone(), SinkMetrics::default());
        let append =
            move || events.into_iter().for_each(|n| sink.append(Lane::Urgent, &drift(n, Severity::High)).unwrap());
        tokio::task::spawn_blocking(append).await.unwrap();
    }

    /// Until everything has its receipt.
    async fn drained(&mut self) {
        while self.journal.pending(CURSOR) > 0 {
            self.progress.changed().await.unwrap();
        }
    }

    /// kill -9.
    async fn dies(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn once(events: std::ops::Range<u64>) -> BTreeMap<String, u64> {
    events.map(|n| (fixtures::event_id(n).0, 1)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_program_that_dies_between_receipt_and_cursor_sends_the_same_batch_again_and_nothing_counts_twice() {
    let (folder, model) = (TempDir::new().unwrap(), Model::default());
    model.script([Answer::Crash]);
    let life = Life::start(folder.path(), &model).await;
    life.append(0..40).await;
    model.1.notified().await;
    life.append(40..60).await;
    life.dies().await;
    assert_eq!(model.0.lock().unwrap().requests, 1);
    let mut life = Life::start(folder.path(), &model).await;
    life.append(60..70).await;
    life.drained().await;
    assert_eq!(model.events(), once(0..70));
    assert_eq!(life.progress.borrow().acknowledged.as_ref().unwrap().seq, life.journal.acknowledged(CURSOR));
    life.dies().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_after_its_write_is_asked_again_and_nothing_counts_twice() {
    let (folder, model) = (TempDir::new().unwrap(), Model::default());
    model.script([Answer::TakeSilently, Answer::Retry, Answer::Retry, Answer::Take, Answer::TakeSilently]);
    let mut life = Life::start(folder.path(), &model).await;
    life.append(0..10).await;
    life.drained().await;
    life.append(10..20).await;
    life.drained().await;
    assert_eq!(model.events(), once(0..20));
    assert!(model.0.lock().unwrap().requests >= 6);
    life.dies().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_does_not_hold_back_the_rest() {
    let (folder, model) = (TempDir::new().unwrap(), Model::default());
    model.script([Answer::Refuse, Answer::Cap]);
    let mut life = Life::start(folder.path(), &model).await;
    life.append(0..1).await;
    life.drained().await;
    life.append(1..3).await;
    life.drained().await;
    assert_eq!(model.events(), once(1..3));
    life.dies().await;
}

#[tokio::test(start_paused = true)]
async fn losses_are_told_once_under_one_id() {
    let (folder, model) = (TempDir::new().unwrap(), Model::default());
    model.script([Answer::TakeSilently, Answer::Crash]);
    let life = Life::start(folder.path(), &model).await;
    let at = jiff::Timestamp::UNIX_EPOCH;
    let lose = |count| life.journal.lose(LossReason::RingFull, LossWindow { count, from: at, until: at }).unwrap();
    lose(3);
    model.1.notified().await;
    lose(4);
    life.dies().await;
    let mut life = Life::start(folder.path(), &model).await;
    life.append(0..1).await;
    life.drained().await;
    while model.0.lock().unwrap().lost.get("ring_full") != Some(&7) {
        life.progress.changed().await.unwrap();
    }
    assert_eq!(model.events(), once(0..1));
    life.dies().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_goes_out_in_bounded_batches() {
    let (folder, model) = (TempDir::new().unwrap(), Model::default());
    let mut life = Life::start(folder.path(), &model).await;
    life.append(0..2000).await;
    life.drained().await;
    assert_eq!(model.events(), once(0..2000));
    let most = zastava_crds::wire::report::MAX_BATCH_BYTES;
    let bodies = model.0.lock().unwrap().bodies.clone();
    assert!(bodies.len() >= 5 && bodies.values().all(|body| body.len() <= most), "{} batches", bodies.len());
    life.dies().await;
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let one = prop_oneof![
        Just(Answer::Take),
        Just(Answer::TakeSilently),
        Just(Answer::Retry),
        Just(Answer::Cap),
        Just(Answer::Crash)
    ];
    proptest::collection::vec(one, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_fails_and_dies_each_event_counts_once(script in answers(), lives in 1u64..5) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (folder, model) = (TempDir::new().unwrap(), Model::default());
            model.script(script);
            for n in 0..lives {
                let life = Life::start(folder.path(), &model).await;
                life.append(n * 10..n * 10 + 10).await;
                tokio::select! {
                    () = model.1.notified() => {}
                    () = tokio::time::sleep(Duration::from_millis(300)) => {}
                }
                life.dies().await;
            }
            model.0.lock().unwrap().script.clear();
            let mut life = Life::start(folder.path(), &model).await;
            life.drained().await;
            assert_eq!(model.events(), once(0..lives * 10));
            life.dies().await;
        });
    }
}
