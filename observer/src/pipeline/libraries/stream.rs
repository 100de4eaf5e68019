//! From the perf event's records to events of libraries.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::event::{Process, RuntimeEvent};

use super::{
    super::{
        Lane, Store, StoreError,
        judge::Judge,
        shared::Shared,
        throttle::{Offer, Throttle},
    },
    Fate,
    execs::Exec,
    owner::{Owner, Owners},
};
use crate::{
    containers::Container,
    drift::Mapped,
    probe::{
        load::monotonic_ns,
        mapping::{Mapping, Order, Record},
        maps::id_key,
        perf::Mappings,
    },
    rules::{Lookup, Policy},
};

/// Between two looks at the kernel's buffers.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at whether a policy asks.
const IDLE: Duration = Duration::from_millis(500);
/// Between two looks at which processors there are.
const FOLLOW: Duration = Duration::from_secs(1);
/// A mapping whose process is gone waits so long for the exec that names its container.
const PATIENCE_NS: u64 = 500_000_000;
/// Mappings that wait.
const MAX_WAITING: usize = 4096;
/// Mappings that are looked at: so many a second, and so many at once.
const BUDGET: (f64, f64) = (5000.0, 20000.0);
/// Processes that are remembered.
const MAX_KNOWN: usize = 8192;

/// A process that executed: its program is no library.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    monotonic_ns: u64,
    program: Option<(u32, u64)>,
    /// Its program is a dynamic loader, and nothing else was mapped yet.
    loader: bool,
}

/// A mapping and what was known of its process at that moment.
#[derive(Debug)]
struct Seen {
    mapping: Mapping,
    executed: Option<u64>,
    payload: bool,
    /// Whose it is by /proc, once that was asked: it is asked once.
    owner: Option<Owner>,
}

/// The one thread that looks at mappings.
pub struct Stream {
    judge: Judge,
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    owners: Owners,
    /// Containers by the device of their root, as of this turn, once one was asked for.
    roots: Option<HashMap<u32, String>>,
    order: Order,
    fresh: HashMap<u32, Fresh>,
    waiting: VecDeque<Seen>,
    /// Events that the journal could not take yet.
    kept: VecDeque<RuntimeEvent>,
    throttle: Throttle,
    offered: u64,
    tokens: f64,
    filled: Instant,
}

/// What can be said of a mapping now.
enum Verdict {
    Done(Fate),
    /// Its process is gone: an exec may still name the container.
    Ask,
    Event(Box<RuntimeEvent>),
}

impl Stream {
    /// Nothing is watched yet.
    pub fn new(judge: Judge, shared: Arc<Shared>, store: Arc<dyn Store>) -> Self {
        Self {
            owners: Owners::new(&shared.proc),
            roots: None,
            judge,
            shared,
            store,
            order: Order::default(),
            fresh: HashMap::new(),
            waiting: VecDeque::new(),
            kept: VecDeque::new(),
            throttle: Throttle::default(),
            offered: 0,
            tokens: BUDGET.1,
            filled: Instant::now(),
        }
    }

    /// Runs until `token` ends it.
    pub fn run(mut self, token: &CancellationToken) {
        let mut open: Option<Mappings> = None;
        let mut refused = false;
        let mut followed = Instant::now();
        while !token.is_cancelled() {
            let wanted = self.shared.register.wants_libraries();
            if !wanted {
                if open.take().is_some() {
                    tracing::info!("no policy asks for libraries any more");
                }
                refused = false;
            }
            if wanted && open.is_none() {
                match Mappings::open() {
                    Ok(mappings) => {
                        tracing::info!("executable mappings are watched");
                        (open, refused) = (Some(mappings), false);
                    }
                    Err(error) if !refused => {
                        tracing::error!(%error, "the kernel does not tell of mappings: no library is seen");
                        refused = true;
                    }
                    Err(_) => {}
                }
            }
            if followed.elapsed() >= FOLLOW
                && let Some(mappings) = &mut open
            {
                followed = Instant::now();
                if let Err(error) = mappings.follow() {
                    tracing::error!(%error, "a processor's mappings can't be watched: all are watched anew");
                    self.turn(&mappings.drain(), u64::MAX);
                    open = None;
                }
            }
            self.shared.libraries_refused.store(refused, std::sync::atomic::Ordering::Relaxed);
            if let Some(mappings) = &mut open {
                // One CPU's buffer is read before another's: what comes meanwhile may be later than what is still to come.
                let until = monotonic_ns();
                let drained = mappings.drain();
                self.turn(&drained, until);
            }
            std::thread::sleep(if open.is_some() { LOOK } else { IDLE });
        }
        self.tell_groups(true);
    }

    fn turn(&mut self, drained: &[u8], until: u64) {
        let now = Instant::now();
        let filled = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = BUDGET.0.mul_add(filled, self.tokens).min(BUDGET.1);
        self.filled = now;
        self.roots = None;
        for record in self.order.take(drained, until) {
            match record {
                Record::Lost(count) => self.shared.mappings.add(Fate::BufferFull, count),
                Record::Executed { pid, monotonic_ns } => {
                    if self.fresh.len() >= MAX_KNOWN {
                        self.fresh.clear();
                    }
                    self.fresh.insert(pid, Fresh { monotonic_ns, program: None, loader: false });
                }
                // Of a process that this pid namespace does not have: another node's on this kernel.
                Record::Mapped(Mapping { pid: 0, .. }) => self.shared.mappings.add(Fate::Foreign, 1),
                Record::Mapped(mapping) => match self.note(mapping) {
                    Some(seen) => self.look(seen, now),
                    None => self.shared.mappings.add(Fate::Filtered, 1),
                },
            }
        }
        // They were put back while their exec was on its way; who waits again does so at the end.
        for _ in 0..self.waiting.len() {
            if let Some(seen) = self.waiting.pop_front() {
                self.look(seen, now);
            }
        }
        self.tell_groups(false);
        for notice in self.throttle.stopped(now) {
            self.keep(notice);
        }
    }

    /// What the process was at this moment: later ones may change it.
    fn note(&mut self, mapping: Mapping) -> Option<Seen> {
        let file = (mapping.device, mapping.inode);
        let fresh = self.fresh.get_mut(&mapping.pid).filter(|_| mapping.is_of_a_file());
        let mut payload = false;
        let mut program = !mapping.is_of_a_file();
        let executed = fresh.map(|fresh| {
            if *fresh.program.get_or_insert(file) == file {
                program = true;
                fresh.loader |= is_loader(&mapping.path);
            } else {
                payload = std::mem::take(&mut fresh.loader);
            }
            fresh.monotonic_ns
        });
        (!program).then_some(Seen { mapping, executed, payload, owner: None })
    }

    fn look(&mut self, mut seen: Seen, now: Instant) {
        let fate = match self.verdict(&mut seen, now) {
            Verdict::Done(fate) => fate,
            Verdict::Ask => {
                let waits = monotonic_ns().saturating_sub(seen.mapping.monotonic_ns) < PATIENCE_NS;
                if waits && self.waiting.len() < MAX_WAITING {
                    self.waiting.push_back(seen);
                    return;
                }
                Fate::Unresolved
            }
            Verdict::Event(event) => {
                self.offered += 8;
                match self.throttle.offer(self.offered, *event, now) {
                    Offer::Through(event) => self.keep(event),
                    Offer::Combined(notice) => notice.into_iter().for_each(|notice| self.keep(notice)),
                }
                return;
            }
        };
        self.shared.mappings.add(fate, 1);
    }

    fn verdict(&mut self, seen: &mut Seen, now: Instant) -> Verdict {
        let Seen { mapping, executed, payload, owner } = seen;
        let file = (mapping.device, mapping.inode);
        if owner.is_none() {
            if self.tokens < 1.0 {
                return Verdict::Done(Fate::OverBudget);
            }
            self.tokens -= 1.0;
        }
        let exec = executed.and_then(|at| self.shared.execs.at(mapping.pid, at));
        if exec.as_ref().is_some_and(|exec| exec.file == file) {
            return Verdict::Done(Fate::Filtered);
        }
        let boottime_ns = boottime(mapping.monotonic_ns);
        let owner = owner.get_or_insert_with(|| self.owners.owner(mapping.pid, boottime_ns, now));
        let lives = *owner != Owner::Gone;
        let id = match owner {
            Owner::Node => return Verdict::Done(Fate::Foreign),
            Owner::Container(id) => Some(id.clone()),
            Owner::Gone => exec.as_ref().map(|exec| exec.container.clone()).or_else(|| self.of_root(mapping.device)),
        };
        let Some(id) = id else { return Verdict::Ask };
        let (container, policies) = match self.shared.register.lookup(&id) {
            Lookup::Known(container, policies) => (container, policies),
            Lookup::Stranger => return Verdict::Done(Fate::Foreign),
            Lookup::Undecided | Lookup::Unknown => return Verdict::Ask,
        };
        if !policies.iter().any(|policy| policy.libraries.is_some()) {
            return Verdict::Done(Fate::Foreign);
        }
        let own_mounts = exec.as_ref().map(|exec| exec.own_mounts);
        match self.shared.examiner.mapped(mapping, &container, lives, own_mounts) {
            Mapped::Unresolved => Verdict::Done(Fate::Unresolved),
            Mapped::Image => Verdict::Done(Fate::Filtered),
            Mapped::Drift(located) => {
                let process = self.process(mapping.pid, lives, exec);
                let event = self.judge.library(
                    mapping,
                    *located,
                    process,
                    *payload,
                    lives.then_some(boottime_ns),
                    (&container, &policies),
                );
                event.map_or(Verdict::Done(Fate::Filtered), |event| Verdict::Event(Box::new(event)))
            }
        }
    }

    fn process(&self, pid: u32, lives: bool, exec: Option<Exec>) -> Process {
        let told = exec.map(|exec| exec.process);
        told.or_else(|| lives.then(|| self.owners.process(pid)).flatten()).unwrap_or_else(|| Process {
            pid,
            ppid: 0,
            uid: u32::MAX,
            path: String::new(),
            args: Vec::new(),
            args_truncated: true,
            parent: None,
        })
    }

    /// The container whose root lies on this device.
    fn of_root(&mut self, device: u32) -> Option<String> {
        let shared = &self.shared;
        let root = |(container, policies): (Arc<Container>, Arc<[Arc<Policy>]>)| {
            let id = &container.reference.container_id;
            let key = id_key(id).filter(|_| policies.iter().any(|policy| policy.libraries.is_some()))?;
            let state = shared.maps.container(&key).ok().flatten().filter(|state| state.armed != 0)?;
            Some((state.root_device, id.clone()))
        };
        let roots = self.roots.get_or_insert_with(|| shared.register.running().into_iter().filter_map(root).collect());
        roots.get(&device).cloned()
    }

    fn tell_groups(&mut self, all: bool) {
        for group in self.throttle.due(Instant::now(), all) {
            self.keep(group.event());
        }
        while let Some(event) = self.kept.pop_front() {
            let count = event.combined.as_ref().map_or(1, |combined| combined.count);
            let count = if event.detail.file().is_some() { count } else { 0 };
            match self.store.append(Lane::from(event.severity), &event) {
                Ok(()) => self.shared.mappings.add(Fate::Stored, count),
                Err(StoreError::Unavailable(_)) if self.kept.len() < MAX_WAITING => {
                    self.kept.push_front(event);
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, category = error.category(), "an event of a library is dropped");
                    self.shared.mappings.add(Fate::JournalWrite, count);
                }
            }
        }
    }

    fn keep(&mut self, event: RuntimeEvent) {
        self.kept.push_back(event);
    }
}

/// As the kernel's side tells a loader.
fn is_loader(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    ["ld-", "ld.s", "ld64"].iter().any(|start| name.starts_with(start))
}

/// A moment of CLOCK_MONOTONIC by CLOCK_BOOTTIME, which goes on while the machine sleeps.
fn boottime(monotonic: u64) -> u64 {
    // In this order: what passes between the two makes the moment later, and the process one that was there.
    let now = monotonic_ns();
    let boot = clock_gettime(ClockId::Boottime);
    let boot = u64::try_from(boot.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(boot.tv_nsec).unwrap_or(0);
    boot.saturating_sub(now).saturating_add(monotonic)
}
