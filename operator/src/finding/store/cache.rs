//! A copy of all findings, kept by a watch and by our own writes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::ResourceExt as _;
use tokio::sync::watch;
use zastava_crds::finding::RuntimeFinding;

type Names = BTreeMap<String, Arc<RuntimeFinding>>;

/// The copy. Bounded by the caps on findings.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    namespaces: Arc<Mutex<HashMap<String, Names>>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { namespaces: Arc::default(), changes: Arc::new(watch::channel(0).0) }
    }
}

impl Cache {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<RuntimeFinding>> {
        self.lock().get(namespace)?.get(name).cloned()
    }

    pub(crate) fn put(&self, finding: RuntimeFinding) {
        let (namespace, name) = (finding.namespace().unwrap_or_default(), finding.name_any());
        self.lock().entry(namespace).or_default().insert(name, Arc::new(finding));
        self.changed();
    }

    pub(crate) fn remove(&self, namespace: &str, name: &str) {
        let mut namespaces = self.lock();
        if let Some(names) = namespaces.get_mut(namespace) {
            names.remove(name);
            if names.is_empty() {
                namespaces.remove(namespace);
            }
        }
        drop(namespaces);
        self.changed();
    }

    pub(crate) fn replace(&self, findings: Vec<RuntimeFinding>) {
        let mut namespaces = self.lock();
        namespaces.clear();
        for finding in findings {
            let (namespace, name) = (finding.namespace().unwrap_or_default(), finding.name_any());
            namespaces.entry(namespace).or_default().insert(name, Arc::new(finding));
        }
        drop(namespaces);
        self.changed();
    }

    pub(crate) fn count(&self, namespace: &str, node: Option<&str>) -> usize {
        let namespaces = self.lock();
        let Some(names) = namespaces.get(namespace) else { return 0 };
        let Some(node) = node else { return names.len() };
        let told_by = |finding: &RuntimeFinding| {
            finding.status.as_ref().and_then(|status| status.nodes.first()).is_some_and(|first| first == node)
        };
        names.values().filter(|finding| told_by(finding)).count()
    }

    pub(crate) fn all(&self) -> Vec<Arc<RuntimeFinding>> {
        self.lock().values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Wakes at every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Names>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
