//! What the node says of itself, put together from its parts: to the intake as NodeStatus, to the kubelet as readiness.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rustix::thread::CapabilitySet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_core::health::{Check, Health};
use zastava_crds::wire::sync::{CoverageReason, NodeStatus};

use super::Board;
use crate::{
    journal::{CursorName, Journal},
    pipeline::{Observed, Observer},
    report::Progress,
};

/// Counters are renewed as often.
const INTERVAL: Duration = Duration::from_secs(1);

/// What keeps [`NodeStatus`] and readiness true.
#[derive(Debug)]
pub struct NodeState {
    node: String,
    observer: watch::Receiver<Option<Observer>>,
    journal: watch::Receiver<Option<Journal>>,
    progress: watch::Receiver<Progress>,
    status: watch::Sender<Arc<NodeStatus>>,
    probe: Check,
    runtime: Check,
    storage: Check,
}

/// What the journal says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    open: bool,
    pending: u64,
    stuck: Option<String>,
}

impl NodeState {
    pub(super) fn new(board: &Board, health: &Health) -> Self {
        let node = board.settings.node.clone();
        let first = NodeStatus { node: node.clone(), version: version(), ..NodeStatus::default() };
        Self {
            node,
            observer: board.observer.subscribe(),
            journal: board.journal.subscribe(),
            progress: board.progress.subscribe(),
            status: watch::Sender::new(Arc::new(first)),
            probe: health.part("probe"),
            runtime: health.part("runtime"),
            storage: health.part("journal"),
        }
    }

    /// The node's state, renewed at each change, and each second for counters.
    pub fn status(&self) -> watch::Receiver<Arc<NodeStatus>> {
        self.status.subscribe()
    }

    /// Renews it until `token` is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let mut observed = None;
        loop {
            if observed.is_none() {
                observed = self.observer.borrow_and_update().as_ref().map(Observer::observed);
            }
            let seen = observed.as_mut().map(|observed| observed.borrow_and_update().clone());
            let progress = self.progress.borrow_and_update().clone();
            let journal = self.journal.borrow_and_update().clone();
            let kept = kept(journal).await;
            self.tell(seen.as_deref(), &progress, &kept);
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
                () = changed(Some(&mut self.observer)) => {}
                () = changed(Some(&mut self.journal)) => {}
                () = changed(Some(&mut self.progress)) => {}
                () = changed(observed.as_mut()) => {}
            }
        }
    }

    fn tell(&self, seen: Option<&Observed>, progress: &Progress, kept: &Kept) {
        let status = status(&self.node, seen, progress, kept);
        match (seen, stuck(progress, kept)) {
            (None, _) => self.probe.not_ready("not started yet"),
            (Some(_), _) if status.observing => self.probe.ready(),
            (Some(_), _) => self.probe.not_ready(not_observing(&status)),
        }
        let runtime_gone = status.reasons.contains(&CoverageReason::RuntimeGone);
        self.runtime.set(seen.is_some() && !runtime_gone, "the container runtime does not answer");
        match stuck(progress, kept) {
            Some(why) => self.storage.not_ready(why),
            None => self.storage.set(kept.open, "not open yet"),
        }
        self.status.send_if_modified(|told| {
            let changed = **told != status;
            if changed {
                *told = Arc::new(status);
            }
            changed
        });
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn stuck<'a>(progress: &'a Progress, kept: &'a Kept) -> Option<&'a str> {
    progress.stuck.as_deref().or(kept.stuck.as_deref())
}

fn status(node: &str, seen: Option<&Observed>, progress: &Progress, kept: &Kept) -> NodeStatus {
    let seen = seen.cloned().unwrap_or_default();
    let mut reasons: BTreeSet<CoverageReason> = seen.reasons;
    if stuck(progress, kept).is_some() {
        reasons.insert(CoverageReason::JournalStuck);
    }
    NodeStatus {
        node: node.to_owned(),
        rules_hash: String::new(),
        version: version(),
        observing: seen.observing,
        reasons: reasons.into_iter().collect(),
        coverage: seen.coverage,
        uncovered: seen.uncovered,
        accounting: seen.accounting,
        kill_armed: seen.kill_armed,
        may_kill: may_kill(),
        journal_pending: kept.pending,
        acknowledged: progress.acknowledged.clone(),
    }
}

/// Whether a signal to another user's process would be let through.
fn may_kill() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::KILL))
}

fn not_observing(status: &NodeStatus) -> String {
    if status.reasons.is_empty() {
        return "the self-test, the rules or the list of containers is still to come".to_owned();
    }
    let reasons: Vec<&str> = status.reasons.iter().map(<&str>::from).collect();
    reasons.join(", ")
}

async fn kept(journal: Option<Journal>) -> Kept {
    let Some(journal) = journal else { return Kept::default() };
    let asked = tokio::task::spawn_blocking(move || Kept {
        open: true,
        pending: journal.pending(CursorName::Report),
        stuck: journal.stuck(),
    });
    asked.await.unwrap_or_default()
}

/// Until a new value is there; for ever if there is no sender, or none any more.
async fn changed<T>(receiver: Option<&mut watch::Receiver<T>>) {
    let changed = match receiver {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_is_stuck_is_a_reason_wherever_it_shows() {
        let seen =
            Observed { observing: true, reasons: BTreeSet::from([CoverageReason::NoBTF]), ..Observed::default() };
        let fine = (Progress::default(), Kept { open: true, pending: 3, stuck: None });
        let told = status("n", Some(&seen), &fine.0, &fine.1);
        assert_eq!((told.reasons, told.journal_pending), (vec![CoverageReason::NoBTF], 3));
        let reading = Progress { stuck: Some("read".to_owned()), ..Progress::default() };
        let writing = Kept { stuck: Some("write".to_owned()), ..fine.1.clone() };
        for (progress, kept) in [(&reading, &fine.1), (&fine.0, &writing)] {
            let told = status("n", Some(&seen), progress, kept);
            assert_eq!(told.reasons, [CoverageReason::NoBTF, CoverageReason::JournalStuck]);
        }
    }

    #[test]
    fn readiness_says_why_it_is_not() {
        let mut told = status("n", None, &Progress::default(), &Kept::default());
        assert_eq!(not_observing(&told), "the self-test, the rules or the list of containers is still to come");
        told.reasons = vec![CoverageReason::NoBTF, CoverageReason::RuntimeGone];
        assert_eq!(not_observing(&told), "NoBTF, RuntimeGone");
    }
}
