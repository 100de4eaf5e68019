//! The seam between what is seen (probe, containers, rules, drift) and what is kept and told (journal, sinks).
//!
//! One thing flows each way: events go to a [`Store`], and rule sets come in by [`Observer::set_rules`]. What the node
//! can say about itself is read from [`Observer::observed`].

mod already;
mod coverage;
mod handover;
mod identity;
mod judge;
#[cfg(test)]
mod kernel_tests;
mod libraries;
mod progress;
mod running;
pub mod self_test;
mod shared;
mod start;
mod throttle;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use zastava_crds::wire::{
    event::{RuntimeEvent, Severity},
    sync::{Accounting, Coverage, CoverageReason, RuleSet, UncoveredPod},
};

pub use crate::probe::reference::Compared;
use crate::{
    containers::{SOCKETS, Sockets},
    probe::reference::TRACEFS,
};
pub use start::{StartError, start};

/// Which way a record goes, from the kernel's ring to the journal: noise on one never uses up the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Lane {
    /// Severity below High.
    Routine,
    /// Severity High and above.
    Urgent,
}

impl From<Severity> for Lane {
    fn from(severity: Severity) -> Self {
        if severity >= Severity::High { Self::Urgent } else { Self::Routine }
    }
}

/// Why a store did not take an event.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may take it later: the record stays in the kernel's ring and is offered again.
    #[error("the journal can't take the event now: {0}")]
    Unavailable(String),
    /// It never will: the event is counted as dropped (`journal_write`).
    #[error("the journal refuses the event: {0}")]
    Refused(String),
}

impl StoreError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "store_unavailable",
            Self::Refused(_) => "store_refused",
        }
    }
}

/// Where events go.
pub trait Store: Send + Sync + 'static {
    /// Takes one event. `Ok` means that it survives a `kill -9` of this process (written with write(2)): the kernel's
    /// ring is advanced past it right after. Called from several threads, never from an async task.
    ///
    /// The process may die between the two, so the same event comes again after a restart: an event whose id is among
    /// the last 256 appended to that lane, those of before the restart included, is answered `Ok` and not kept twice.
    /// The sink redacts arguments before it writes them.
    fn append(&self, lane: Lane, event: &RuntimeEvent) -> Result<(), StoreError>;
}

/// Folder of the pins on a node.
pub const BPFFS: &str = "/sys/fs/bpf/zastava/v1";

/// What the observer is started with.
#[derive(Clone, Debug)]
pub struct ObserverConfig {
    /// UID of the Node object; part of every event id.
    pub node_uid: String,
    /// Folder in a mounted bpffs that holds the pins, made if missing.
    pub bpffs: PathBuf,
    /// Where the runtime's CRI socket is looked for.
    pub runtime: Sockets,
    /// Where proc is mounted.
    pub proc: PathBuf,
    /// Where the containers of now are kept for the next agent.
    pub handover: Option<PathBuf>,
    /// Where tracefs may be mounted.
    pub tracefs: Vec<PathBuf>,
    /// How long an exec may wait for its container's metadata.
    pub pending_age: Duration,
    /// How many execs may wait for metadata.
    pub pending_max: usize,
    /// Time without an agent after which the kernel stops killing.
    pub heartbeat_expiry: Duration,
    /// What the self-test executes: a program that ends by itself.
    pub self_test: Vec<OsString>,
}

impl ObserverConfig {
    /// Settings of a pod with the usual mounts.
    pub fn new(node_uid: impl Into<String>) -> Self {
        Self {
            node_uid: node_uid.into(),
            bpffs: PathBuf::from(BPFFS),
            runtime: Sockets { candidates: SOCKETS.iter().map(PathBuf::from).collect(), own: None },
            proc: PathBuf::from("/proc"),
            handover: None,
            tracefs: TRACEFS.iter().map(PathBuf::from).collect(),
            pending_age: Duration::from_secs(10),
            pending_max: 4096,
            heartbeat_expiry: Duration::from_mins(3),
            self_test: self_test::own_command(),
        }
    }
}

/// What the node can say of itself; feeds NodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The probe is attached, and its last self-test exec was seen.
    pub observing: bool,
    /// What is missing on the node.
    pub reasons: BTreeSet<CoverageReason>,
    /// Matched pods by coverage.
    pub coverage: Coverage,
    /// Matched pods not fully covered, at most 100.
    pub uncovered: Vec<UncoveredPod>,
    /// Counters since the probe was attached.
    pub accounting: Accounting,
    /// Executable mappings since the agent started, by what became of each; all 0 where no policy asks for libraries.
    pub mappings: BTreeMap<&'static str, u64>,
    /// The kernel's own count of execs beside the probe's, where it can be had.
    pub reference: Option<Compared>,
    /// The kernel kills: some container has a kill set and the heartbeat is fresh.
    pub kill_armed: bool,
}

/// A running observer. Dropping it does not stop it; its token does. The probe itself stays attached either way.
#[derive(Clone, Debug)]
pub struct Observer {
    pub(crate) rules: watch::Sender<Arc<RuleSet>>,
    pub(crate) observed: watch::Receiver<Arc<Observed>>,
}

impl Observer {
    /// Puts a rule set in force for every container, running ones included.
    pub fn set_rules(&self, rules: RuleSet) {
        self.rules.send_replace(Arc::new(rules));
    }

    /// The node's own words, renewed at each change and at most once a second for counters.
    pub fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.observed.clone()
    }
}
