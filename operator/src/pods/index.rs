//! Pod UID to pod, past deletion.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    Owners, Pod,
    pod::{is_config_hash, static_key},
};

/// A deleted pod is remembered for as long as an observer's journal may hold a record of it.
const REMEMBERED: Duration = Duration::from_hours(24);
/// Deleted pods that are remembered at most; the oldest goes first.
const MAX_REMEMBERED: usize = 50_000;

/// What is known of a pod's UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    Live(Arc<Pod>),
    /// It was.
    Gone(Arc<Pod>),
    /// It was never seen.
    Never,
}

#[derive(Debug, Default)]
struct Inner {
    live: HashMap<String, Arc<Pod>>,
    gone: HashMap<String, Arc<Pod>>,
    order: VecDeque<(Instant, String)>,
    synced: bool,
}

/// All pods, and those that were. Reads never wait for the API server.
#[derive(Clone, Debug)]
pub struct PodIndex {
    inner: Arc<Mutex<Inner>>,
    owners: Owners,
    changes: Arc<watch::Sender<u64>>,
}

impl Default for PodIndex {
    fn default() -> Self {
        Self { inner: Arc::default(), owners: Owners::default(), changes: Arc::new(watch::channel(0).0) }
    }
}

impl PodIndex {
    /// What is known of this UID; static pods are found by their node as well ([`Self::find_on`]).
    pub fn find(&self, uid: &str) -> Found {
        let inner = self.lock();
        match (inner.live.get(uid), inner.gone.get(uid)) {
            (Some(pod), _) => Found::Live(pod.clone()),
            (None, Some(pod)) => Found::Gone(pod.clone()),
            (None, None) => Found::Never,
        }
    }

    /// What is known of the pod that `node` knows by this uid: its UID, or the config hash of a static pod.
    pub fn find_on(&self, node: &str, uid: &str) -> Found {
        if is_config_hash(uid) { self.find(&static_key(node, uid)) } else { self.find(uid) }
    }

    /// All pods that are there.
    pub fn live(&self) -> Vec<Arc<Pod>> {
        self.lock().live.values().cloned().collect()
    }

    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// All pods have been read once.
    pub fn synced(&self) -> bool {
        self.lock().synced
    }

    /// Wakes when a pod comes, goes or changes in what is kept of it; for the first complete reading too.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn put(&self, pod: Pod) {
        let mut inner = self.lock();
        let key = pod.key();
        let changed = match inner.live.get(&key) {
            None => true,
            // Two mirrors of one static pod: the second is somebody's invention.
            Some(old) => **old != pod && old.is_same(&pod),
        };
        if changed {
            inner.gone.remove(&key);
            inner.live.insert(key, Arc::new(pod));
            drop(inner);
            self.changed();
        }
    }

    pub(crate) fn remove(&self, pod: &Pod) {
        let mut inner = self.lock();
        let key = pod.key();
        if inner.live.get(&key).is_some_and(|old| old.is_same(pod))
            && let Some(pod) = inner.live.remove(&key)
        {
            inner.bury(pod, Instant::now());
            drop(inner);
            self.changed();
        }
    }

    /// A complete reading: whatever is not in it is gone.
    pub(crate) fn replace(&self, pods: Vec<Pod>) {
        let mut inner = self.lock();
        let mut listed: HashMap<String, Arc<Pod>> = HashMap::with_capacity(pods.len());
        for pod in pods {
            let key = pod.key();
            if !listed.contains_key(&key) || inner.live.get(&key).is_some_and(|old| old.is_same(&pod)) {
                listed.insert(key, Arc::new(pod));
            }
        }
        let now = Instant::now();
        for (key, pod) in std::mem::take(&mut inner.live) {
            if !listed.contains_key(&key) {
                inner.bury(pod, now);
            }
        }
        for key in listed.keys() {
            inner.gone.remove(key);
        }
        inner.live = listed;
        inner.synced = true;
        drop(inner);
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn bury(&mut self, pod: Arc<Pod>, now: Instant) {
        let key = pod.key();
        self.order.push_back((now, key.clone()));
        self.gone.insert(key, pod);
        while self.order.len() > MAX_REMEMBERED
            || self.order.front().is_some_and(|(at, _)| now.duration_since(*at) > REMEMBERED)
        {
            if let Some((_, uid)) = self.order.pop_front() {
                self.gone.remove(&uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zastava_crds::wire::report::WorkloadRef;

    use super::*;

    fn pod(uid: &str) -> Pod {
        Pod {
            uid: uid.to_owned(),
            namespace: "ns".to_owned(),
            name: uid.to_owned(),
            node: Some("n1".to_owned()),
            labels: std::collections::BTreeMap::new(),
            workload: WorkloadRef { kind: "Pod".to_owned(), name: uid.to_owned() },
            containers: Vec::new(),
            image_volumes: Vec::new(),
            finished: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_pod_is_remembered_for_a_day() {
        let index = PodIndex::default();
        index.put(pod("a"));
        assert!(matches!(index.find("a"), Found::Live(_)));
        index.remove(&pod("a"));
        assert!(matches!(index.find("a"), Found::Gone(_)));
        tokio::time::advance(REMEMBERED + Duration::from_secs(1)).await;
        index.put(pod("b"));
        index.remove(&pod("b"));
        assert_eq!(index.find("a"), Found::Never);
        assert!(matches!(index.find("b"), Found::Gone(_)));
    }

    #[test]
    fn what_a_new_listing_lacks_is_gone_and_remembered() {
        let index = PodIndex::default();
        index.replace(vec![pod("a"), pod("b")]);
        index.replace(vec![pod("b")]);
        assert!(matches!(index.find("a"), Found::Gone(_)));
        assert_eq!(index.live().len(), 1);
        assert_eq!(index.find("c"), Found::Never);
    }

    #[test]
    fn memory_of_the_dead_is_bounded() {
        let index = PodIndex::default();
        for n in 0..=MAX_REMEMBERED {
            index.put(pod(&n.to_string()));
            index.remove(&pod(&n.to_string()));
        }
        assert_eq!(index.find("0"), Found::Never);
        assert!(matches!(index.find("1"), Found::Gone(_)));
        assert_eq!(index.lock().order.len(), MAX_REMEMBERED);
    }
    #[test]
    fn a_static_pod_is_one_of_its_node_and_nobody_takes_its_place() {
        let hash = "0123456789abcdef0123456789abcdef";
        let mirror = |name: &str, node: &str| Pod { name: name.into(), node: Some(node.into()), ..pod(hash) };
        let index = PodIndex::default();
        index.replace(vec![mirror("proxy-n1", "n1")]);
        let name = |node: &str| match index.find_on(node, hash) {
            Found::Live(pod) | Found::Gone(pod) => Some(pod.name.clone()),
            Found::Never => None,
        };
        index.put(mirror("invented", "n1"));
        index.put(mirror("elsewhere", "n2"));
        assert_eq!((name("n1"), name("n2")), (Some("proxy-n1".into()), Some("elsewhere".into())));
        index.remove(&mirror("invented", "n1"));
        assert!(matches!(index.find_on("n1", hash), Found::Live(_)));
        index.replace(vec![mirror("invented", "n1"), mirror("proxy-n1", "n1")]);
        assert_eq!(name("n1"), Some("proxy-n1".into()));
        assert!(matches!(index.find_on("n2", hash), Found::Gone(_)));
        assert_eq!(index.find_on("n3", hash), Found::Never);
    }
}
