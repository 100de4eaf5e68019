//! What ran before the probe was attached: listed once a container, told as found running, never killed.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use zastava_crds::wire::event::RuntimeEvent;

use super::{
    Lane, Store, StoreError,
    judge::Judge,
    libraries::{Owner, Owners},
    shared::Shared,
};
use crate::{
    containers::Container,
    drift::monotonic_start,
    probe::{ProbeError, maps::id_key, record::ExecRecord},
    rules::Policy,
};

/// Execs of drift that are remembered, so that none is told as found running as well.
const MAX_TOLD: usize = 4096;
/// Files that are read and hashed at once: the heartbeat waits for them.
const MAX_AT_ONCE: usize = 32;
/// Processes of a node that are looked at.
const MAX_PROCESSES: usize = 65_536;

/// Processes whose drift came up through the ring: pid, and start in clock ticks.
#[derive(Debug, Default)]
pub struct Told(Mutex<Processes>);

#[derive(Debug, Default)]
struct Processes {
    known: HashSet<(u32, u64)>,
    order: VecDeque<(u32, u64)>,
}

impl Told {
    /// Remembers one.
    pub fn put(&self, record: &ExecRecord) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let process = (record.pid, record.start_boottime_ns / 10_000_000);
        if !told.known.insert(process) {
            return;
        }
        told.order.push_back(process);
        if told.order.len() > MAX_TOLD
            && let Some(oldest) = told.order.pop_front()
        {
            told.known.remove(&oldest);
        }
    }

    fn has(&self, process: (u32, u64)) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&process)
    }
}

type Ruled = (Arc<Container>, Arc<[Arc<Policy>]>);

/// Lists what was there first.
pub struct Already {
    judge: Judge,
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    /// Found at the last look, to be told when the rings are judged so far: container, pid, start.
    found: Vec<(String, u32, u64)>,
    /// Whether they are.
    asked: u64,
    /// Containers that were looked through at the last look.
    looked: Vec<String>,
}

impl std::fmt::Debug for Already {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Already").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Already {
    /// Nothing is listed yet.
    pub fn new(judge: Judge, store: Arc<dyn Store>, shared: Arc<Shared>) -> Self {
        Self { judge, store, shared, found: Vec::new(), asked: 0, looked: Vec::new() }
    }

    /// Looks once, or tells some of what was found then.
    pub fn look(&mut self) -> Result<(), ProbeError> {
        let unlisted = self.unlisted()?;
        if !self.looked.is_empty() {
            return if self.shared.progress.has_passed(self.asked) { self.tell(&unlisted) } else { Ok(()) };
        }
        if unlisted.is_empty() {
            return Ok(());
        }
        self.looked = unlisted.keys().cloned().collect();
        let mut owners = Owners::new(&self.shared.proc);
        let now = std::time::Instant::now();
        let pids = fs::read_dir(&self.shared.proc).into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).take(MAX_PROCESSES);
        for pid in pids {
            let Owner::Container(id) = owners.owner(pid, u64::MAX, now) else { continue };
            let Some((container, _)) = unlisted.get(&id) else { continue };
            let Some(start) = monotonic_start(&self.shared.proc, pid) else { continue };
            if self.shared.examiner.running(pid, container).is_some() {
                self.found.push((id, pid, start));
            }
        }
        self.asked = self.shared.progress.ask();
        Ok(())
    }

    /// Containers with rules on drift that were there before the probe.
    fn unlisted(&self) -> Result<BTreeMap<String, Ruled>, ProbeError> {
        let mut unlisted = BTreeMap::new();
        for (container, policies) in self.shared.register.running() {
            let id = &container.reference.container_id;
            let Some(key) = id_key(id).filter(|_| policies.iter().any(|policy| policy.drift.is_some())) else {
                continue;
            };
            if self.shared.maps.container(&key)?.is_some_and(|state| state.armed != 0 && state.listed == 0) {
                unlisted.insert(id.clone(), (container, policies));
            }
        }
        Ok(unlisted)
    }

    fn tell(&mut self, unlisted: &BTreeMap<String, Ruled>) -> Result<(), ProbeError> {
        let owners = Owners::new(&self.shared.proc);
        let mut left = Vec::new();
        let mut read = 0;
        for (id, pid, start) in std::mem::take(&mut self.found) {
            if read == MAX_AT_ONCE {
                left.push((id, pid, start));
                continue;
            }
            let Some((container, policies)) = unlisted.get(&id) else { continue };
            // What executed since was told by the ring; what ended since is not known to have drifted.
            if self.shared.told.has((pid, start)) || monotonic_start(&self.shared.proc, pid) != Some(start) {
                continue;
            }
            let Some(process) = owners.process(pid) else { continue };
            read += 1;
            let Some(event) = self.judge.running(process, start, container, policies) else { continue };
            if !self.keep(&event) {
                left.push((id, pid, start));
            }
        }
        self.found = left;
        if !self.found.is_empty() {
            return Ok(());
        }
        for id in std::mem::take(&mut self.looked) {
            if let Some(key) = id_key(&id) {
                self.shared.maps.set_listed(&key)?;
            }
        }
        Ok(())
    }

    /// Whether the store has it, or never will.
    fn keep(&self, event: &RuntimeEvent) -> bool {
        match self.store.append(Lane::from(event.severity), event) {
            Ok(()) => true,
            Err(StoreError::Unavailable(_)) => false,
            Err(error) => {
                tracing::error!(%error, category = error.category(), "a process found running is not told");
                true
            }
        }
    }
}
