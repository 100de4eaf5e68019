//! The idle connection to the intake: it tells the node's state and brings the rules.
//!
//! Rules are put in force first and kept on the disk next, so that after a restart the node goes on with the last ones
//! although nobody answers.

mod metrics;

#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use zastava_core::intake::{IntakeClient, Outcome};
use zastava_crds::wire::sync::{Accounting, NodeStatus, RuleSet};

pub use self::metrics::SyncMetrics;
use crate::{kept::KeptFile, report::Pause};

/// Name of the rules' file in the state directory.
pub const RULES_FILE: &str = "rules.json";
/// The last rules that were in force.
pub type RulesFile = KeptFile<RuleSet>;

/// Time that an intake has for its answer before a request is dropped for a changed state: a state that changes all the
/// time must not keep rules away.
const HOLD_AT_LEAST: Duration = Duration::from_millis(300);
/// Time between two requests at least, whatever the intake answers.
const SPACING: Duration = Duration::from_millis(200);
/// Time between two attempts, at first and at most: a silent node counts as not observing soon.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Who holds the rules.
pub trait Intake: Send + Sync {
    /// Tells a state and waits for rules.
    fn sync(&self, status: &NodeStatus) -> impl Future<Output = Outcome<Option<Box<RuleSet>>>> + Send;
}

impl Intake for IntakeClient {
    async fn sync(&self, status: &NodeStatus) -> Outcome<Option<Box<RuleSet>>> {
        Self::sync(self, status).await
    }
}

/// The one task that syncs.
#[derive(Debug)]
pub struct Syncer<I> {
    intake: I,
    file: Arc<RulesFile>,
    status: watch::Receiver<Arc<NodeStatus>>,
    rules: watch::Sender<Arc<RuleSet>>,
    metrics: SyncMetrics,
}

impl<I: Intake> Syncer<I> {
    /// Tells each `status`, and sends into `rules`; [`NodeStatus::rules_hash`] is filled in here.
    pub fn new(
        intake: I,
        file: RulesFile,
        status: watch::Receiver<Arc<NodeStatus>>,
        rules: watch::Sender<Arc<RuleSet>>,
        metrics: SyncMetrics,
    ) -> Self {
        Self { intake, file: Arc::new(file), status, rules, metrics }
    }

    /// Syncs until `token` is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let mut pause = Pause::new(PAUSES);
        while !token.is_cancelled() {
            let mut status = NodeStatus::clone(&self.status.borrow_and_update());
            let told = telling(&status);
            status.rules_hash.clone_from(&self.rules.borrow().hash);
            let began = Instant::now();
            let outcome = tokio::select! {
                () = token.cancelled() => return,
                outcome = self.intake.sync(&status) => outcome,
                () = changed(&mut self.status, &told) => continue,
            };
            match outcome {
                Outcome::Taken(rules) => {
                    if !pause.is_first() {
                        tracing::info!("the intake answers again");
                    }
                    pause.reset();
                    self.metrics.synced();
                    if let Some(rules) = rules.filter(|rules| rules.hash != status.rules_hash) {
                        self.apply(*rules).await;
                    }
                    let _ = tokio::time::timeout_at(began + SPACING, token.cancelled()).await;
                }
                Outcome::Refused(problem) => {
                    let (status, title) = (problem.status, problem.title);
                    tracing::warn!(status, title, detail = problem.detail, "the intake refuses this node's state");
                    self.metrics.failed("refused");
                    pause.wait(None, &token).await;
                }
                Outcome::Retry(retry) => {
                    if pause.is_first() {
                        tracing::warn!(%retry, "the intake can't be asked for rules");
                    }
                    self.metrics.failed(retry.reason.into());
                    pause.wait(retry.after, &token).await;
                }
            }
        }
    }

    async fn apply(&self, rules: RuleSet) {
        let rules = Arc::new(rules);
        tracing::info!(hash = rules.hash, policies = rules.policies.len(), "rules in force");
        self.rules.send_replace(rules.clone());
        self.metrics.applied();
        let file = self.file.clone();
        let saved = tokio::task::spawn_blocking(move || file.save(&rules)).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(%error, category = error.category(), "rules can't be kept for the next start");
            self.metrics.failed(error.category());
        }
    }
}

/// What the intake must hear of at once: all but counters.
fn telling(status: &NodeStatus) -> NodeStatus {
    NodeStatus { accounting: Accounting::default(), journal_pending: 0, acknowledged: None, ..status.clone() }
}

/// Until the state is another than the one told.
async fn changed(status: &mut watch::Receiver<Arc<NodeStatus>>, told: &NodeStatus) {
    tokio::time::sleep(HOLD_AT_LEAST).await;
    if status.wait_for(|status| telling(status) != *told).await.is_err() {
        // Nobody tells a state any more: the program ends.
        std::future::pending::<()>().await;
    }
}
