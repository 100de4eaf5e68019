//! A bounded queue and the one task that empties it: one batch in flight, sent again unchanged until it has its receipt.

use std::{future::Future, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::report::{AdmissionRecord, BatchMark, BatchReceipt, Report, ReportBatch};

use crate::metrics::{Dropped, Metrics};

/// Records that wait at most: some MiB at their largest.
const CAPACITY: usize = 1_000;
/// Records of one batch at most: far below the intake's bounds in number and bytes.
const BATCH: usize = 100;
/// Time between two attempts, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Where records go in.
#[derive(Clone, Debug)]
pub struct Reporter {
    queue: mpsc::Sender<AdmissionRecord>,
    metrics: Metrics,
}

/// The other end.
#[derive(Debug)]
pub struct Outbox {
    queue: mpsc::Receiver<AdmissionRecord>,
    metrics: Metrics,
}

/// How a batch fared.
#[derive(Debug)]
pub enum Delivery {
    /// Dealt with.
    Taken(BatchReceipt),
    /// Not taken, and never will be.
    Refused(String),
    /// Not taken yet.
    Retry {
        /// Why.
        why: String,
        /// When the intake wants to see it again.
        after: Option<Duration>,
    },
}

/// Who takes batches.
pub trait Intake: Send + Sync {
    /// Sends one batch.
    fn deliver(&self, batch: &ReportBatch) -> impl Future<Output = Delivery> + Send;
}

/// A queue with its two ends.
pub fn queue(metrics: Metrics) -> (Reporter, Outbox) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Reporter { queue: sender, metrics: metrics.clone() }, Outbox { queue: receiver, metrics })
}

impl Reporter {
    /// Puts records in; what has no room is dropped and counted. A request never waits for its report.
    pub fn send(&self, records: Vec<AdmissionRecord>) {
        for record in records {
            if self.queue.try_send(record).is_err() {
                self.metrics.dropped(Dropped::QueueFull, 1);
            }
        }
    }
}

impl Outbox {
    /// Empties the queue until `token` is cancelled, then as far as the intake takes it at once. `reporter` is
    /// `pod:<uid>/<start>`.
    pub async fn run(mut self, reporter: String, intake: impl Intake, token: CancellationToken) {
        let mut records = Vec::with_capacity(BATCH);
        for seq in 1.. {
            tokio::select! {
                biased;
                () = token.cancelled() => self.queue.close(),
                waiting = self.queue.recv_many(&mut records, BATCH) => if waiting == 0 { return },
            }
            if records.is_empty() && self.queue.recv_many(&mut records, BATCH).await == 0 {
                return;
            }
            let mark = BatchMark { reporter: reporter.clone(), seq };
            let batch = ReportBatch { mark, records: records.drain(..).map(Report::Admission).collect() };
            // Another batch under this mark would be taken for a repeat of it: what follows is lost with it.
            if !self.deliver(&batch, &intake, &token).await {
                self.queue.close();
                let left = u64::try_from(self.queue.len()).unwrap_or(u64::MAX);
                self.metrics.dropped(Dropped::Shutdown, count(&batch).saturating_add(left));
                return;
            }
        }
    }

    /// Sends a batch until it is dealt with. False: the program ends first.
    async fn deliver(&self, batch: &ReportBatch, intake: &impl Intake, token: &CancellationToken) -> bool {
        let mut pause = PAUSE.0;
        loop {
            let last = token.is_cancelled();
            match intake.deliver(batch).await {
                Delivery::Taken(receipt) => {
                    self.taken(batch, &receipt);
                    return true;
                }
                Delivery::Refused(why) => {
                    tracing::warn!(seq = batch.mark.seq, records = batch.records.len(), %why, "the intake refused a batch");
                    self.metrics.dropped(Dropped::Refused, count(batch));
                    return true;
                }
                Delivery::Retry { why, after } => {
                    tracing::debug!(seq = batch.mark.seq, %why, "the intake did not take a batch yet");
                    pause = pause.max(after.unwrap_or_default());
                }
            }
            if last {
                return false;
            }
            let _ = tokio::time::timeout(pause, token.cancelled()).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn taken(&self, batch: &ReportBatch, receipt: &BatchReceipt) {
        let refused: u64 = receipt.refused.iter().map(|refused| refused.count).sum();
        self.metrics.reported(count(batch).saturating_sub(refused));
        if refused > 0 {
            self.metrics.dropped(Dropped::Refused, refused);
        }
    }
}

#[cfg(test)]
impl Outbox {
    /// Takes what waits now.
    pub fn waiting(&mut self) -> Vec<AdmissionRecord> {
        std::iter::from_fn(|| self.queue.try_recv().ok()).collect()
    }
}

fn count(batch: &ReportBatch) -> u64 {
    u64::try_from(batch.records.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use prometheus_client::{encoding::text::encode, registry::Registry};
    use zastava_crds::{
        policy::Mode,
        wire::{
            event::{PolicyRef, Severity},
            report::{AdmissionOutcome, DECISION_SCHEMA, Refused, RefusedReason, WorkloadRef},
        },
    };

    use super::*;

    /// Answers as scripted, and notes what it was sent.
    #[derive(Clone, Default)]
    struct Scripted {
        answers: Arc<Mutex<Vec<&'static str>>>,
        sent: Arc<Mutex<Vec<(u64, usize)>>>,
        /// Cancelled by a test that wants the program to end.
        ends: CancellationToken,
    }

    impl Intake for Scripted {
        async fn deliver(&self, batch: &ReportBatch) -> Delivery {
            assert_eq!(batch.mark.reporter, "pod:1");
            self.sent.lock().unwrap().push((batch.mark.seq, batch.records.len()));
            let refused = vec![Refused { reason: RefusedReason::Capped, count: 1 }];
            match self.answers.lock().unwrap().pop() {
                Some("retry") => Delivery::Retry { why: "no leader".to_owned(), after: None },
                Some("end") => {
                    self.ends.cancel();
                    Delivery::Retry { why: "no leader".to_owned(), after: None }
                }
                Some("refuse") => Delivery::Refused("400".to_owned()),
                Some("capped") => Delivery::Taken(BatchReceipt { mark: batch.mark.clone(), merged: 0, refused }),
                _ => Delivery::Taken(BatchReceipt { mark: batch.mark.clone(), merged: 1, refused: Vec::new() }),
            }
        }
    }

    fn record(n: usize) -> AdmissionRecord {
        AdmissionRecord {
            schema: DECISION_SCHEMA.to_owned(),
            event_id: format!("{n}/app"),
            decided_at: jiff::Timestamp::UNIX_EPOCH,
            namespace: "default".to_owned(),
            workload: WorkloadRef { kind: "Pod".to_owned(), name: "p".to_owned() },
            container: "app".to_owned(),
            image: "r/app:1".to_owned(),
            digest: None,
            outcome: AdmissionOutcome::Denied,
            policy: PolicyRef { name: Mode::Enforce.to_string(), uid: "u".to_owned(), hash: String::new() },
            requirement: "signatures[release]".to_owned(),
            message: "no signature".to_owned(),
            severity: Severity::Medium,
        }
    }

    fn metrics() -> (Registry, Metrics) {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        (registry, metrics)
    }

    fn has(registry: &Registry, line: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text.lines().any(|l| l == line)
    }

    #[tokio::test]
    async fn a_batch_is_sent_under_its_mark_until_it_is_dealt_with_and_the_next_one_rises_by_one() {
        let (registry, metrics) = metrics();
        let (reporter, outbox) = queue(metrics);
        let intake = Scripted::default();
        *intake.answers.lock().unwrap() = vec!["capped", "refuse", "retry", "retry"];
        reporter.send((0..250).map(record).collect());
        drop(reporter);
        outbox.run("pod:1".to_owned(), intake.clone(), CancellationToken::new()).await;
        assert_eq!(*intake.sent.lock().unwrap(), [(1, 100), (1, 100), (1, 100), (2, 100), (3, 50)]);
        assert!(has(&registry, "zastava_admission_reports_total 149"));
        assert!(has(&registry, "zastava_admission_reports_dropped_total{reason=\"refused\"} 101"));
    }

    #[tokio::test]
    async fn what_has_no_room_is_counted_and_nothing_waits() {
        let (registry, metrics) = metrics();
        let (reporter, mut outbox) = queue(metrics);
        reporter.send((0..CAPACITY + 7).map(record).collect());
        assert!(has(&registry, "zastava_admission_reports_dropped_total{reason=\"queue_full\"} 7"));
        assert_eq!(outbox.waiting().len(), CAPACITY);
    }

    #[tokio::test]
    async fn at_the_end_everything_gets_one_attempt() {
        let (registry, metrics) = metrics();
        let (reporter, outbox) = queue(metrics);
        let intake = Scripted::default();
        *intake.answers.lock().unwrap() = vec!["taken", "taken", "end"];
        reporter.send((0..150).map(record).collect());
        outbox.run("pod:1".to_owned(), intake.clone(), intake.ends.clone()).await;
        assert_eq!(*intake.sent.lock().unwrap(), [(1, 100), (1, 100), (2, 50)]);
        assert!(has(&registry, "zastava_admission_reports_total 150"));
    }

    #[tokio::test]
    async fn what_an_intake_does_not_take_at_the_end_is_counted() {
        let (registry, metrics) = metrics();
        let (reporter, outbox) = queue(metrics);
        let intake = Scripted::default();
        *intake.answers.lock().unwrap() = vec!["retry", "end"];
        reporter.send((0..150).map(record).collect());
        outbox.run("pod:1".to_owned(), intake.clone(), intake.ends.clone()).await;
        assert_eq!(*intake.sent.lock().unwrap(), [(1, 100), (1, 100)]);
        assert!(has(&registry, "zastava_admission_reports_dropped_total{reason=\"shutdown\"} 150"));
    }
}
