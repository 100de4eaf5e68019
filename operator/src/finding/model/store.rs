//! Findings in memory, with the API server's promises and none more: reads may be old, writes may fail before or after
//! they happened.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use kube::ResourceExt as _;
use zastava_crds::finding::{FindingType, RuntimeFinding, RuntimeFindingSpec, RuntimeFindingStatus};

use crate::finding::store::{FindingStore, StoreError};

type Name = (String, String);

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not happen, and the writer is told nothing of use.
    Before,
    /// It happens, and the writer is told nothing of use.
    After,
}

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    objects: BTreeMap<Name, RuntimeFinding>,
    faults: VecDeque<Option<Fault>>,
    gone: BTreeSet<String>,
    writes: usize,
}

/// One replica's view of the findings: clones share it, [`MemoryStore::another`] shares the findings alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    view: Arc<Mutex<BTreeMap<Name, Arc<RuntimeFinding>>>>,
}

impl MemoryStore {
    /// Another replica's view, empty.
    pub(crate) fn another(&self) -> Self {
        Self { inner: self.inner.clone(), view: Arc::default() }
    }

    /// This view becomes what is stored.
    pub(crate) fn catch_up(&self) {
        let now = self.lock().objects.iter().map(|(name, object)| (name.clone(), Arc::new(object.clone()))).collect();
        *self.view.lock().unwrap() = now;
    }

    /// What becomes of the next writes; `None`: they succeed.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.lock().faults = faults.into_iter().collect();
    }

    /// A namespace that takes no more objects.
    pub(crate) fn end_namespace(&self, namespace: &str) {
        let mut inner = self.lock();
        inner.gone.insert(namespace.to_owned());
        inner.objects.retain(|(of, _), _| of != namespace);
    }

    /// Everything that is stored, by namespace and name.
    pub(crate) fn stored(&self) -> Vec<RuntimeFinding> {
        self.lock().objects.values().cloned().collect()
    }

    /// Writes that happened.
    pub(crate) fn writes(&self) -> usize {
        self.lock().writes
    }

    /// Puts a finding with this status in, and into this view.
    pub(crate) fn insert(&self, name: &str, status: RuntimeFindingStatus) -> RuntimeFinding {
        self.insert_in("shop", name, "/tmp/x", status)
    }

    /// The same in a namespace, about a subject.
    pub(crate) fn insert_in(
        &self,
        namespace: &str,
        name: &str,
        subject: &str,
        status: RuntimeFindingStatus,
    ) -> RuntimeFinding {
        let spec = RuntimeFindingSpec {
            workload: zastava_crds::wire::report::WorkloadRef { kind: "Deployment".into(), name: name.into() },
            container: "main".to_owned(),
            type_: FindingType::Drift,
            subject: subject.to_owned(),
            acknowledgement: None,
        };
        let mut finding = RuntimeFinding::new(name, spec);
        finding.metadata.namespace = Some(namespace.to_owned());
        finding.status = Some(status);
        let stored = self.lock().put(finding);
        self.see(&stored);
        stored
    }

    /// Somebody else changes what is stored; this view does not see it.
    pub(crate) fn change(&self, namespace: &str, name: &str, change: impl FnOnce(&mut RuntimeFindingStatus)) {
        let mut inner = self.lock();
        let mut finding = inner.objects[&(namespace.to_owned(), name.to_owned())].clone();
        change(finding.status.get_or_insert_default());
        inner.put(finding);
    }

    fn see(&self, finding: &RuntimeFinding) {
        self.view.lock().unwrap().insert(key(finding), Arc::new(finding.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn write(
        &self,
        change: impl FnOnce(&mut Inner) -> Result<RuntimeFinding, StoreError>,
    ) -> Result<RuntimeFinding, StoreError> {
        let mut inner = self.lock();
        let fault = inner.faults.pop_front().flatten();
        let unknown = || Err(StoreError::Unavailable("cut off".to_owned()));
        if fault == Some(Fault::Before) {
            return unknown();
        }
        let result = change(&mut inner);
        inner.writes += usize::from(result.is_ok());
        drop(inner);
        if fault == Some(Fault::After) {
            return unknown();
        }
        if let Ok(stored) = &result {
            self.see(stored);
        }
        result
    }
}

impl Inner {
    fn put(&mut self, mut finding: RuntimeFinding) -> RuntimeFinding {
        self.version += 1;
        finding.metadata.resource_version = Some(self.version.to_string());
        self.objects.insert(key(&finding), finding.clone());
        finding
    }

    fn unchanged(&self, finding: &RuntimeFinding) -> Result<&RuntimeFinding, StoreError> {
        let stored = self.objects.get(&key(finding)).ok_or(StoreError::Missing)?;
        if stored.resource_version() == finding.resource_version() { Ok(stored) } else { Err(StoreError::Conflict) }
    }
}

fn key(finding: &RuntimeFinding) -> Name {
    (finding.namespace().unwrap_or_default(), finding.name_any())
}

impl FindingStore for MemoryStore {
    async fn get(&self, namespace: &str, name: &str, fresh: bool) -> Result<Option<RuntimeFinding>, StoreError> {
        tokio::task::yield_now().await;
        let name = (namespace.to_owned(), name.to_owned());
        if !fresh {
            return Ok(self.view.lock().unwrap().get(&name).map(|finding| (**finding).clone()));
        }
        let found = self.lock().objects.get(&name).cloned();
        match &found {
            Some(finding) => self.see(finding),
            None => drop(self.view.lock().unwrap().remove(&name)),
        }
        Ok(found)
    }

    async fn create(&self, finding: &RuntimeFinding) -> Result<RuntimeFinding, StoreError> {
        tokio::task::yield_now().await;
        let created = self.write(|inner| {
            let (namespace, name) = key(finding);
            if inner.gone.contains(&namespace) {
                return Err(StoreError::NamespaceGone);
            }
            if inner.objects.contains_key(&(namespace, name)) {
                return Err(StoreError::Exists);
            }
            Ok(inner.put(RuntimeFinding { status: None, ..finding.clone() }))
        });
        tokio::task::yield_now().await;
        created
    }

    async fn write_status(&self, finding: &RuntimeFinding) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        let written = self.write(|inner| {
            let stored = inner.unchanged(finding)?.clone();
            Ok(inner.put(RuntimeFinding { status: finding.status.clone(), ..stored }))
        });
        tokio::task::yield_now().await;
        written.map(|_| ())
    }

    async fn delete(&self, finding: &RuntimeFinding) -> Result<(), StoreError> {
        self.write(|inner| {
            let stored = inner.unchanged(finding)?.clone();
            inner.objects.remove(&key(finding));
            Ok(stored)
        })?;
        self.view.lock().unwrap().remove(&key(finding));
        Ok(())
    }

    fn count(&self, namespace: &str, node: Option<&str>) -> usize {
        let view = self.view.lock().unwrap();
        let told_by = |finding: &RuntimeFinding, node: &str| {
            finding.status.as_ref().and_then(|status| status.nodes.first()).is_some_and(|first| first == node)
        };
        view.iter()
            .filter(|((of, _), finding)| of == namespace && node.is_none_or(|node| told_by(finding, node)))
            .count()
    }

    fn all(&self) -> Vec<Arc<RuntimeFinding>> {
        self.view.lock().unwrap().values().cloned().collect()
    }
}
