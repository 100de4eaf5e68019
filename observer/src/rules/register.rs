//! Which containers there are and what holds for each, here and in the kernel.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use zastava_crds::wire::sync::RuleSet;

use super::{
    Kernel, Policy, Rules,
    kernel::{Slots, compile},
};
use crate::{
    containers::Container,
    probe::{
        ProbeError,
        maps::{KernelRules, id_key},
    },
};

/// A removed container is remembered for so long, for records that come late.
const REMEMBERED: Duration = Duration::from_mins(5);
/// A namespace that the rules don't name is new for so long, then exempt.
const NEW_NAMESPACE: Duration = Duration::from_secs(5);
/// What an earlier agent knew of a container holds until the runtime was listed, or for so long in vain.
const LIST_PATIENCE: Duration = NEW_NAMESPACE;
/// Containers that the next agent is told of.
const MAX_HANDED_ON: usize = 4096;
/// Ids of containers that are not the runtime's.
const MAX_STRANGERS: usize = 4096;

/// What is known of a container id.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Nothing, yet.
    Unknown,
    /// The container, but not yet the rules for it.
    Undecided,
    /// The runtime does not know it: somebody else's.
    Stranger,
    /// All that is needed.
    Known(Arc<Container>, Arc<[Arc<Policy>]>),
}

/// A container and the policies that hold for it.
pub type Ruled = (Arc<Container>, Arc<[Arc<Policy>]>);

/// All containers and the rules for them.
pub struct Register {
    kernel: Arc<dyn Kernel>,
    inner: Mutex<Inner>,
    changed: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Inner {
    rules: Option<Arc<Rules>>,
    slots: Slots,
    containers: HashMap<String, Entry>,
    strangers: HashSet<String>,
    /// The runtime was listed at least once.
    listed: Option<Instant>,
}

struct Entry {
    container: Arc<Container>,
    policies: Option<Arc<[Arc<Policy>]>>,
    in_kernel: Option<KernelRules>,
    first_seen: Instant,
    removed: Option<Instant>,
    /// Told by an earlier agent, and by nobody since.
    handed_on: bool,
}

impl std::fmt::Debug for Register {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Register").finish_non_exhaustive()
    }
}

impl Register {
    /// Nothing is known; `changed` is called whenever that changes.
    pub fn new(kernel: Arc<dyn Kernel>, changed: impl Fn() + Send + Sync + 'static) -> Result<Self, ProbeError> {
        let slots = Slots::new(kernel.as_ref())?;
        let inner = Mutex::new(Inner { slots, ..Inner::default() });
        Ok(Self { kernel, inner, changed: Box::new(changed) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an id.
    pub fn lookup(&self, id: &str) -> Lookup {
        let inner = self.lock();
        match inner.containers.get(id) {
            Some(Entry { policies: Some(policies), container, .. }) => {
                Lookup::Known(container.clone(), policies.clone())
            }
            Some(_) => Lookup::Undecided,
            None if inner.strangers.contains(id) => Lookup::Stranger,
            None => Lookup::Unknown,
        }
    }

    /// Containers that run, with the policies that hold for each.
    pub fn running(&self) -> Vec<Ruled> {
        let inner = self.lock();
        let running = inner.containers.values().filter(|entry| entry.removed.is_none() && entry.container.running);
        running.filter_map(|entry| Some((entry.container.clone(), entry.policies.clone()?))).collect()
    }

    /// What the next agent is to know: a record of a container that ended while nobody looked names it all the same.
    /// Those that are there come first, then those that went last.
    pub fn to_hand_on(&self) -> Vec<Container> {
        let inner = self.lock();
        let mut entries: Vec<&Entry> = inner.containers.values().collect();
        entries.sort_by(|a, b| {
            let went = |entry: &Entry| (entry.removed.is_some(), std::cmp::Reverse(entry.removed));
            went(a)
                .cmp(&went(b))
                .then_with(|| a.container.reference.container_id.cmp(&b.container.reference.container_id))
        });
        entries.into_iter().take(MAX_HANDED_ON).map(|entry| Container::clone(&entry.container)).collect()
    }

    /// Containers that an earlier agent knew. Until the runtime tells of them they count as gone.
    pub fn handed_on(&self, containers: Vec<Container>) {
        let mut inner = self.lock();
        let now = Instant::now();
        for container in containers.into_iter().take(MAX_HANDED_ON) {
            let id = container.reference.container_id.clone();
            // Its pid may be another process's by now.
            let container = Arc::new(Container { pid: 0, running: false, ..container });
            inner.containers.entry(id).or_insert_with(|| Entry {
                container,
                policies: None,
                in_kernel: None,
                first_seen: now,
                removed: Some(now),
                handed_on: true,
            });
        }
        self.apply_all(&mut inner);
        drop(inner);
        (self.changed)();
    }

    /// Rules are set and the runtime's containers were listed: no container that runs goes unnoticed.
    pub fn is_settled(&self) -> bool {
        let inner = self.lock();
        inner.rules.is_some() && inner.listed.is_some()
    }

    /// Whether some container's policy asks for its libraries.
    pub fn wants_libraries(&self) -> bool {
        let asks = |policies: &Arc<[Arc<Policy>]>| policies.iter().any(|policy| policy.libraries.is_some());
        self.lock()
            .containers
            .values()
            .any(|entry| entry.removed.is_none() && entry.policies.as_ref().is_some_and(asks))
    }

    /// Whether the kernel holds a kill for some container.
    pub fn kills(&self) -> bool {
        self.lock().containers.values().any(|entry| entry.in_kernel.is_some_and(|rules| rules.kill != 0))
    }

    /// Puts a rule set in force for every container.
    pub fn set_rules(&self, set: &RuleSet) {
        let Some(rules) = Rules::new(set).map(Arc::new) else { return };
        let mut inner = self.lock();
        inner.rules = Some(rules);
        self.apply_all(&mut inner);
        drop(inner);
        (self.changed)();
    }

    /// A container was created, or something of it changed.
    pub fn seen(&self, container: Container) {
        let mut inner = self.lock();
        let id = container.reference.container_id.clone();
        inner.put(container);
        self.apply(&mut inner, &id);
        drop(inner);
        (self.changed)();
    }

    /// These are all containers there are.
    pub fn listed(&self, containers: Vec<Container>) {
        let mut inner = self.lock();
        let now = Instant::now();
        let ids: HashSet<String> = containers.iter().map(|c| c.reference.container_id.clone()).collect();
        for container in containers {
            inner.put(container);
        }
        for (id, entry) in &mut inner.containers {
            if !ids.contains(id) {
                entry.removed.get_or_insert(now);
            }
        }
        inner.listed = Some(now);
        self.apply_all(&mut inner);
        drop(inner);
        (self.changed)();
    }

    /// A container is gone; late records may still name it.
    pub fn removed(&self, id: &str) {
        let mut inner = self.lock();
        if let Some(entry) = inner.containers.get_mut(id) {
            entry.removed.get_or_insert(Instant::now());
            entry.in_kernel = None;
        }
        if let Some(key) = id_key(id)
            && let Err(error) = self.kernel.remove(&key)
        {
            tracing::warn!(%error, category = error.category(), "rules of a removed container stay in the kernel");
        }
        drop(inner);
        (self.changed)();
    }

    /// An id was waited for in vain. Once the runtime was listed after `since`, it is somebody else's container.
    pub fn estrange(&self, id: &str, since: Instant) {
        let mut inner = self.lock();
        let known = inner.containers.contains_key(id) || inner.listed.is_none_or(|listed| listed < since);
        if known || inner.strangers.len() >= MAX_STRANGERS {
            return;
        }
        inner.strangers.insert(id.to_owned());
        // The kernel filters it from now on.
        if let Some(key) = id_key(id)
            && let Err(error) = self.kernel.put(&key, KernelRules::default())
        {
            tracing::warn!(%error, category = error.category(), "the kernel goes on to tell of a container of others");
        }
    }

    /// What time changes: call it about once a second.
    pub fn tick(&self) {
        let mut inner = self.lock();
        let now = Instant::now();
        inner.containers.retain(|_, entry| entry.removed.is_none_or(|at| now.duration_since(at) < REMEMBERED));
        let undecided: Vec<String> = inner
            .containers
            .iter()
            .filter(|(_, entry)| entry.policies.is_none() && entry.first_seen.elapsed() >= NEW_NAMESPACE)
            .map(|(id, _)| id.clone())
            .collect();
        if inner.rules.is_none() || undecided.is_empty() {
            return;
        }
        for id in undecided {
            self.apply(&mut inner, &id);
        }
        drop(inner);
        (self.changed)();
    }

    fn apply_all(&self, inner: &mut Inner) {
        let ids: Vec<String> = inner.containers.keys().cloned().collect();
        for id in ids {
            self.apply(inner, &id);
        }
        if inner.rules.is_some()
            && inner.listed.is_some()
            && let Err(error) = self.sweep(inner)
        {
            tracing::warn!(%error, category = error.category(), "rules of an earlier agent stay in the kernel");
        }
    }

    fn apply(&self, inner: &mut Inner, id: &str) {
        let Inner { rules: Some(rules), slots, containers, listed, .. } = inner else { return };
        let Some(entry) = containers.get_mut(id) else { return };
        // A sandbox runs nothing of the pod's, whatever its namespace.
        let undecided = !entry.container.is_sandbox
            && !rules.knows(&entry.container.reference.namespace)
            && entry.first_seen.elapsed() < NEW_NAMESPACE;
        // The runtime knows more of it, if it is still there.
        let unheard = entry.handed_on && listed.is_none() && entry.first_seen.elapsed() < LIST_PATIENCE;
        if undecided || unheard {
            return;
        }
        let policies: Arc<[Arc<Policy>]> = rules.of(&entry.container).into();
        let (mut kernel_rules, tops) = compile(&policies);
        entry.policies = Some(policies);
        let Some(key) = id_key(id).filter(|_| entry.removed.is_none()) else { return };
        let put = slots.slot(self.kernel.as_ref(), tops).and_then(|slot| {
            kernel_rules.slot = slot;
            if entry.in_kernel == Some(kernel_rules) { Ok(()) } else { self.kernel.put(&key, kernel_rules) }
        });
        match put {
            Ok(()) => entry.in_kernel = Some(kernel_rules),
            // Its execs are told without rules then, and judged by the agent.
            Err(error) => {
                tracing::error!(%error, category = error.category(), container = id, "rules don't reach the kernel");
            }
        }
    }

    fn sweep(&self, inner: &mut Inner) -> Result<(), ProbeError> {
        for (key, _) in self.kernel.ruled()? {
            let id = String::from_utf8_lossy(&key);
            let known = inner.containers.get(id.as_ref()).is_some_and(|entry| entry.removed.is_none());
            if !known && !inner.strangers.contains(id.as_ref()) {
                self.kernel.remove(&key)?;
            }
        }
        let used: BTreeSet<u32> =
            inner.containers.values().filter_map(|entry| entry.in_kernel).map(|rules| rules.slot).collect();
        inner.slots.sweep(self.kernel.as_ref(), &used)
    }
}

impl Inner {
    fn put(&mut self, container: Container) {
        let id = container.reference.container_id.clone();
        self.strangers.remove(&id);
        let container = Arc::new(container);
        let fresh = || Entry {
            container: container.clone(),
            policies: None,
            in_kernel: None,
            first_seen: Instant::now(),
            removed: None,
            handed_on: false,
        };
        let entry = self.containers.entry(id).or_insert_with(fresh);
        entry.container = container.clone();
        entry.removed = None;
        entry.handed_on = false;
    }
}
