//! Cursor 1 of the journal: batches to the intake, one in flight, each repeated unchanged until it is dealt with.
//!
//! Exactly once, whatever dies: a batch and its number are on the disk before it is sent, the intake adds a batch under
//! the same mark once, and the cursor moves on only after the receipt. Between receipt and cursor the batch is sent
//! again under its mark, which adds nothing.

mod encode;
mod metrics;
mod pause;

#[cfg(test)]
mod tests;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_core::intake::{IntakeClient, Outcome};
use zastava_crds::wire::report::{BatchMark, BatchReceipt};

pub use self::{metrics::ReportMetrics, pause::Pause};
use crate::journal::{CursorName, Journal, JournalError};

const CURSOR: CursorName = CursorName::Report;
/// How long the first of some events waits for those right behind it, so that a burst is not sent piecemeal.
const GATHER: Duration = Duration::from_millis(100);
/// Time after which the journal is looked at again, although it told of nothing new.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two attempts, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Who takes batches.
pub trait Intake: Send + Sync {
    /// Sends the batch under `mark` once.
    fn report(&self, mark: &BatchMark, body: Bytes) -> impl Future<Output = Outcome<BatchReceipt>> + Send;
}

impl Intake for IntakeClient {
    async fn report(&self, mark: &BatchMark, body: Bytes) -> Outcome<BatchReceipt> {
        self.report_encoded(mark, body).await
    }
}

/// How far reporting has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last batch whose receipt has arrived.
    pub acknowledged: Option<BatchMark>,
    /// Why the journal can't be read or written, while that is so.
    pub stuck: Option<String>,
}

/// The one task that empties the journal into the intake.
#[derive(Debug)]
pub struct Reporter<I> {
    journal: Journal,
    intake: I,
    mark: String,
    metrics: ReportMetrics,
    progress: watch::Sender<Progress>,
}

/// How long a batch is tried.
enum Delivered {
    Done,
    ProgramEnds,
}

impl<I: Intake> Reporter<I> {
    /// For the node with this UID; `progress` tells of each receipt.
    pub fn new(
        journal: Journal,
        intake: I,
        node_uid: &str,
        metrics: ReportMetrics,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let mark = format!("node:{node_uid}/{}", journal.name());
        Self { journal, intake, mark, metrics, progress }
    }

    /// Reports until `token` is cancelled. What is in flight then goes out again at the next start.
    pub async fn run(self, token: CancellationToken) {
        let mut pause = Pause::new(PAUSES);
        self.acknowledged(self.blocking(|journal| journal.acknowledged(CURSOR)).await);
        while !token.is_cancelled() {
            let began = self.blocking(|journal| journal.begin(CURSOR, encode::BOUND)).await;
            let batch = match began {
                Some(Ok(Some(batch))) => batch,
                Some(Ok(None)) => {
                    self.stuck(None);
                    tokio::select! {
                        () = token.cancelled() => return,
                        () = self.journal.wait(PATIENCE) => {}
                    }
                    // Nothing is lost if this is cut short.
                    let _ = tokio::time::timeout(GATHER, token.cancelled()).await;
                    continue;
                }
                Some(Err(error)) => {
                    self.failed(&error);
                    pause.wait(None, &token).await;
                    continue;
                }
                None => return,
            };
            self.stuck(None);
            let mark = BatchMark { reporter: self.mark.clone(), seq: batch.seq };
            let records = batch.payloads.len();
            let Some(body) = encode::body(&mark, &batch) else {
                // Impossible by its types; the batch stays, and says so at each attempt.
                self.stuck(Some("a batch can't be encoded".to_owned()));
                pause.wait(None, &token).await;
                continue;
            };
            drop(batch);
            match self.deliver(&mark, records, &body, &token).await {
                Delivered::Done => pause.reset(),
                Delivered::ProgramEnds => return,
            }
            let seq = mark.seq;
            match self.blocking(move |journal| journal.acknowledge(CURSOR, seq)).await {
                // The cursor has moved in memory, and will be written with the next batch, or not at all: then this
                // one is sent once more.
                Some(Err(error)) => self.failed(&error),
                Some(Ok(())) => {}
                None => return,
            }
            self.acknowledged(Some(seq));
        }
    }

    /// Sends a batch until it is dealt with.
    async fn deliver(&self, mark: &BatchMark, records: usize, body: &Bytes, token: &CancellationToken) -> Delivered {
        let mut pause = Pause::new(PAUSES);
        loop {
            let outcome = tokio::select! {
                () = token.cancelled() => return Delivered::ProgramEnds,
                outcome = self.intake.report(mark, body.clone()) => outcome,
            };
            match outcome {
                Outcome::Taken(receipt) => {
                    for refused in receipt.refused.iter().filter(|refused| refused.count > 0) {
                        let (reason, count): (&str, _) = (refused.reason.into(), refused.count);
                        tracing::warn!(seq = mark.seq, reason, count, "the intake refused records for good");
                        self.metrics.refused(reason, refused.count);
                    }
                    self.metrics.taken(receipt.merged);
                    return Delivered::Done;
                }
                Outcome::Refused(problem) => {
                    let (status, title) = (problem.status, problem.title);
                    tracing::error!(seq = mark.seq, records, status, title, "the intake refused a batch for good");
                    self.metrics.refused("batch", u64::try_from(records).unwrap_or(u64::MAX));
                    return Delivered::Done;
                }
                Outcome::Retry(retry) => {
                    self.metrics.retried(retry.reason);
                    if pause.is_first() {
                        tracing::warn!(seq = mark.seq, %retry, "the intake did not take a batch yet");
                    }
                    pause.wait(retry.after, token).await;
                }
            }
        }
    }

    /// Does something that blocks. None when the runtime ends.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(Journal) -> T + Send + 'static) -> Option<T> {
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || work(journal)).await.ok()
    }

    fn acknowledged(&self, seq: Option<u64>) {
        let Some(seq) = seq.filter(|&seq| seq > 0) else { return };
        let mark = BatchMark { reporter: self.mark.clone(), seq };
        self.progress.send_modify(|progress| progress.acknowledged = Some(mark));
    }

    fn failed(&self, error: &JournalError) {
        tracing::error!(%error, category = error.category(), "the journal can't be read or written");
        self.stuck(Some(error.to_string()));
    }

    fn stuck(&self, reason: Option<String>) {
        self.progress.send_if_modified(|progress| {
            let changed = progress.stuck != reason;
            progress.stuck = reason;
            changed
        });
    }
}
