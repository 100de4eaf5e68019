//! The count of execs that is not ours: the kernel's own, by a perf event that counts and so loses nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Maps, ProbeError, perf::Count};

/// Where tracefs may be mounted.
pub const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const TRACEPOINT: &str = "events/sched/sched_process_exec/id";
/// An exec between two reads spoils the pair; so many pairs are tried.
const TRIES: usize = 100;

/// Why there is no such count.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The tracepoint's number is not to be had.
    #[error("{path} can't be read: {source}; mount tracefs there")]
    NoTracefs {
        /// What was read last.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refuses the event.
    #[error("the kernel refuses to count a tracepoint: {0}; CAP_PERFMON is needed")]
    Refused(#[source] io::Error),
    /// The probe's own count can't be read.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl ReferenceError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NoTracefs { .. } => "no_tracefs",
            Self::Refused(_) => "perf_refused",
            Self::Probe(error) => error.category(),
        }
    }
}

/// Both counts of the same execs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// By the kernel.
    pub counted: u64,
    /// By the probe.
    pub executed: u64,
}

/// The kernel's count beside the probe's, from the moment it was opened.
#[derive(Debug)]
pub struct Reference {
    count: Count,
    start: Compared,
}

impl Reference {
    /// Starts to count; `extra` are execs that the probe's own maps don't count.
    ///
    /// # Errors
    /// [`ReferenceError`]: there is no such count then, and nothing else is amiss.
    pub fn open(tracefs: &[impl AsRef<Path>], maps: &Maps, extra: impl Fn() -> u64) -> Result<Self, ReferenceError> {
        let mut problem = ReferenceError::Refused(io::ErrorKind::NotFound.into());
        for folder in tracefs {
            let path = folder.as_ref().join(TRACEPOINT);
            match fs::read_to_string(&path).and_then(|id| id.trim().parse().map_err(io::Error::other)) {
                Ok(id) => {
                    let count = Count::of_tracepoint(id).map_err(ReferenceError::Refused)?;
                    let mut reference = Self { count, start: Compared::default() };
                    reference.start = reference.both(maps, extra)?;
                    return Ok(reference);
                }
                Err(source) => problem = ReferenceError::NoTracefs { path, source },
            }
        }
        Err(problem)
    }

    /// Both counts since it was opened. Where execs never cease they are a few apart.
    ///
    /// # Errors
    /// If one of them can't be read.
    pub fn compare(&self, maps: &Maps, extra: impl Fn() -> u64) -> Result<Compared, ReferenceError> {
        let now = self.both(maps, extra)?;
        Ok(Compared { counted: now.counted - self.start.counted, executed: now.executed - self.start.executed })
    }

    /// At a moment without an exec, if there is one.
    fn both(&self, maps: &Maps, extra: impl Fn() -> u64) -> Result<Compared, ReferenceError> {
        let mut both = Compared::default();
        for _ in 0..TRIES {
            let before = self.count.read().map_err(ReferenceError::Refused)?;
            both = Compared { counted: before, executed: maps.counters()?.executed + extra() };
            if self.count.read().map_err(ReferenceError::Refused)? == before {
                break;
            }
        }
        Ok(both)
    }
}
