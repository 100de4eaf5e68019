//! The last word of each node's observer.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use zastava_crds::wire::{
    report::BatchMark,
    sync::{NODE_SILENT_SECONDS, NodeStatus},
};

/// Nodes that are remembered at most; Kubernetes itself promises 5,000.
const MAX_NODES: usize = 10_000;
/// A node that was silent for this long is forgotten.
const FORGET: Duration = Duration::from_hours(1);

/// More nodes speak than are remembered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("more than {MAX_NODES} nodes report: the status of this one is not kept")]
pub struct TooManyNodes;

impl TooManyNodes {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        "too_many_nodes"
    }
}

/// What is known of one node's observer.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its last word.
    pub status: Arc<NodeStatus>,
    /// Time since it last spoke; zero while it waits on an open sync.
    pub age: Duration,
    /// No word for [`NODE_SILENT_SECONDS`]: it does not observe, whatever its last word says.
    pub silent: bool,
}

#[derive(Debug)]
struct Known {
    status: Arc<NodeStatus>,
    heard: Instant,
}

#[derive(Debug)]
struct Inner {
    nodes: Mutex<BTreeMap<String, Known>>,
    confirmed: Mutex<HashMap<String, u64>>,
    since: Mutex<Option<Instant>>,
    changes: watch::Sender<u64>,
}

/// The last status of every node, filled by the intake. Only the leader hears nodes: on another replica, and after a
/// change of leader until [`NodeRegistry::settled`], an absent node means nothing.
#[derive(Clone, Debug)]
pub struct NodeRegistry(Arc<Inner>);

impl Default for NodeRegistry {
    fn default() -> Self {
        Self(Arc::new(Inner {
            nodes: Mutex::default(),
            confirmed: Mutex::default(),
            since: Mutex::default(),
            changes: watch::channel(0).0,
        }))
    }
}

impl NodeRegistry {
    /// What is known of `node`.
    pub fn get(&self, node: &str) -> Option<NodeView> {
        lock(&self.0.nodes).get(node).map(view)
    }

    /// What is known of every node, by name.
    pub fn all(&self) -> BTreeMap<String, NodeView> {
        lock(&self.0.nodes).iter().map(|(name, known)| (name.clone(), view(known))).collect()
    }

    /// A node that is not known by now has no observer: this replica has been hearing nodes for longer than
    /// [`NODE_SILENT_SECONDS`].
    pub fn settled(&self) -> bool {
        lock(&self.0.since).is_some_and(|since| since.elapsed() >= silence())
    }

    /// Wakes when a status changes in content; silence wakes nobody, so look again after [`NODE_SILENT_SECONDS`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// This replica begins to hear nodes (its term began): what it knew before is forgotten.
    pub fn begin(&self) {
        lock(&self.0.nodes).clear();
        *lock(&self.0.since) = Some(Instant::now());
        self.changed();
    }

    /// Notes a status.
    pub(crate) fn record(&self, status: NodeStatus) -> Result<(), TooManyNodes> {
        let mut nodes = lock(&self.0.nodes);
        let room = nodes.len() < MAX_NODES;
        let known = Known { status: Arc::new(status), heard: Instant::now() };
        let changed = match nodes.entry(known.status.node.clone()) {
            Entry::Occupied(mut entry) => {
                let old = entry.get();
                let changed = old.status != known.status || old.heard.elapsed() >= silence();
                entry.insert(known);
                changed
            }
            Entry::Vacant(_) if !room => return Err(TooManyNodes),
            Entry::Vacant(entry) => {
                entry.insert(known);
                true
            }
        };
        nodes.retain(|_, known| known.heard.elapsed() < FORGET);
        drop(nodes);
        if changed {
            self.changed();
        }
        Ok(())
    }

    /// The node still waits on its sync.
    pub(crate) fn still_there(&self, node: &str) {
        if let Some(known) = lock(&self.0.nodes).get_mut(node) {
            known.heard = Instant::now();
        }
    }

    /// The reporter has the receipt of this batch: it will never be sent again.
    pub(crate) fn confirm(&self, mark: &BatchMark) {
        let mut confirmed = lock(&self.0.confirmed);
        if confirmed.len() >= 2 * MAX_NODES && !confirmed.contains_key(&mark.reporter) {
            confirmed.clear();
        }
        let last = confirmed.entry(mark.reporter.clone()).or_default();
        *last = mark.seq.max(*last);
    }

    /// Whether the batch of this mark is known never to be sent again.
    pub(crate) fn confirmed(&self, reporter: &str, seq: u64) -> bool {
        lock(&self.0.confirmed).get(reporter).is_some_and(|last| seq <= *last)
    }

    fn changed(&self) {
        self.0.changes.send_modify(|n| *n = n.wrapping_add(1));
    }
}

fn silence() -> Duration {
    Duration::from_secs(NODE_SILENT_SECONDS)
}

fn view(known: &Known) -> NodeView {
    let age = known.heard.elapsed();
    NodeView { status: known.status.clone(), age, silent: age >= silence() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(node: &str, observing: bool) -> NodeStatus {
        NodeStatus { node: node.to_owned(), observing, ..NodeStatus::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_a_word_becomes_silent() {
        let registry = NodeRegistry::default();
        registry.record(status("a", true)).unwrap();
        assert!(!registry.get("a").unwrap().silent);
        tokio::time::advance(silence()).await;
        assert!(registry.get("a").unwrap().silent);
        registry.still_there("a");
        assert!(!registry.all()["a"].silent);
    }

    #[tokio::test(start_paused = true)]
    async fn only_content_wakes() {
        let registry = NodeRegistry::default();
        let mut changes = registry.changes();
        registry.record(status("a", true)).unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        registry.record(status("a", true)).unwrap();
        assert!(!changes.has_changed().unwrap());
        registry.record(status("a", false)).unwrap();
        assert!(changes.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn an_absent_node_means_something_only_once_settled() {
        let registry = NodeRegistry::default();
        assert!(!registry.settled());
        registry.begin();
        assert!(!registry.settled());
        tokio::time::advance(silence()).await;
        assert!(registry.settled());
    }

    #[test]
    fn a_confirmation_covers_what_came_before() {
        let registry = NodeRegistry::default();
        registry.confirm(&BatchMark { reporter: "node:a".into(), seq: 7 });
        assert!(registry.confirmed("node:a", 7) && registry.confirmed("node:a", 3));
        assert!(!registry.confirmed("node:a", 8) && !registry.confirmed("node:b", 1));
    }
}
