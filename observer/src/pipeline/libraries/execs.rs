//! Execs of the last moments: they say whose a mapping was when its process is gone.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use zastava_crds::wire::event::Process;

use crate::probe::record::{ExecRecord, flags};

/// Execs that are remembered.
const MAX: usize = 1024;
/// Between the two moments at which perf event and probe see one exec.
const APART_NS: u64 = 100_000_000;

/// One exec.
#[derive(Clone, Debug)]
pub struct Exec {
    /// In which container.
    pub container: String,
    /// What ran.
    pub process: Process,
    /// Its program.
    pub file: (u32, u64),
    /// Its mounts are the container's.
    pub own_mounts: bool,
    monotonic_ns: u64,
}

#[derive(Debug, Default)]
struct Inner {
    by_pid: HashMap<u32, Exec>,
    order: VecDeque<(u32, u64)>,
}

/// The last ones of containers whose libraries are looked at.
#[derive(Debug, Default)]
pub struct Execs(Mutex<Inner>);

impl Execs {
    /// Remembers one.
    pub fn put(&self, record: &ExecRecord, process: Process) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.order.len() >= MAX
            && let Some((pid, at)) = inner.order.pop_front()
            && inner.by_pid.get(&pid).is_some_and(|exec| exec.monotonic_ns == at)
        {
            inner.by_pid.remove(&pid);
        }
        inner.order.push_back((record.pid, record.monotonic_ns));
        let exec = Exec {
            container: record.container.clone(),
            process,
            file: (record.device, record.inode),
            own_mounts: !record.has(flags::OTHER_MNTNS),
            monotonic_ns: record.monotonic_ns,
        };
        inner.by_pid.insert(record.pid, exec);
    }

    /// The exec of this process that was under way at this moment.
    pub fn at(&self, pid: u32, monotonic_ns: u64) -> Option<Exec> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_pid.get(&pid).filter(|exec| exec.monotonic_ns.abs_diff(monotonic_ns) < APART_NS).cloned()
    }
}
