//! What the threads of the rings and the async side share.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use super::{
    already::Told,
    libraries::{Execs, Tally},
    progress::Progress,
};
use crate::{
    containers::{Container, CriError, RuntimeState},
    drift::Examiner,
    probe::{Maps, load::namespace},
    rules::Register,
};

/// Wakes the threads of the rings.
#[derive(Clone, Debug, Default)]
pub struct Wakers(Arc<Vec<OwnedFd>>);

impl Wakers {
    /// Of these event counters.
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        Self(Arc::new(fds))
    }

    /// Wakes all.
    pub fn wake(&self) {
        for fd in self.0.iter() {
            // A counter that is full wakes as well.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }
}

/// State of a running pipeline.
#[derive(Debug)]
pub struct Shared {
    pub register: Arc<Register>,
    pub examiner: Arc<Examiner>,
    pub maps: Arc<Maps>,
    pub proc: std::path::PathBuf,
    /// Some record names a container that nobody knows.
    pub wanted: Notify,
    /// Some container came, changed or went.
    pub containers_changed: Arc<Notify>,
    /// Last execs of containers whose libraries are looked at.
    pub execs: Execs,
    /// How far the rings are judged.
    pub progress: Progress,
    /// Processes whose drift came up through the ring.
    pub told: Told,
    /// What became of mappings.
    pub mappings: Tally,
    /// A policy asks for libraries, and the kernel does not tell of them.
    pub libraries_refused: AtomicBool,
    /// The runtime answers.
    pub runtime: AtomicBool,
    /// The store takes events.
    pub store: AtomicBool,
    /// Pid of the last self-test that came through the ring.
    pub self_test: watch::Sender<u32>,
}

impl RuntimeState for Shared {
    fn connected(&self, pid: Option<u32>) {
        // Without a pid it runs where this process can't see it; the node's first process has to do then.
        let pid = pid.unwrap_or(1);
        match namespace(&self.proc.join(pid.to_string()).join("ns/mnt")) {
            Ok(mntns) => {
                self.examiner.set_host(pid);
                if let Err(error) = self.maps.set_config(|config| config.runtime_mntns = mntns) {
                    tracing::error!(%error, category = error.category(), "the probe does not know the runtime");
                }
            }
            Err(error) => tracing::warn!(%error, category = error.category(), "the runtime's mounts are hidden"),
        }
        self.runtime.store(true, Ordering::Relaxed);
        tracing::info!(pid, "following the container runtime");
    }

    fn gone(&self, _: &CriError) {
        self.runtime.store(false, Ordering::Relaxed);
    }

    fn seen(&self, container: Container) {
        self.register.seen(container);
    }

    fn removed(&self, id: &str) {
        self.register.removed(id);
    }

    fn listed(&self, containers: Vec<Container>) {
        self.register.listed(containers);
    }

    async fn wanted(&self) {
        self.wanted.notified().await;
    }
}
