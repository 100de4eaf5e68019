//! The parts that run while the probe is attached.

use std::{
    cell::Cell,
    ffi::OsString,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Observed, ObserverConfig, Store,
    already::{Already, Told},
    coverage::{accounting, arm, coverage},
    handover::Handover,
    identity::Identity,
    judge::Judge,
    libraries::{Execs, Stream, Tally},
    progress::Progress,
    self_test,
    shared::{Shared, Wakers},
    worker::Worker,
};
use crate::{
    drift::Examiner,
    probe::{
        Probe, ProbeError,
        load::{Statistics, monotonic_ns},
        reference::{Compared, Reference},
        ring::Ring,
        settle::{Book, Ledger},
    },
    rules::Register,
};

/// Between two self-tests. One that fails is to be told of within [`LOUD`].
const SELF_TEST: Duration = Duration::from_secs(8);
/// How soon a node that is not observed says so.
const LOUD: Duration = Duration::from_secs(15);
/// The node's own words are renewed as often.
pub const LOOK: Duration = Duration::from_secs(1);
const _: () = assert!(SELF_TEST.as_secs() + self_test::PATIENCE.as_secs() + LOOK.as_secs() <= LOUD.as_secs());

/// A handle on all of it.
#[derive(Clone, Debug)]
pub struct Running {
    pub shared: Arc<Shared>,
    pub statistics: Arc<Statistics>,
    pub wakers: Wakers,
    /// For the next agent.
    pub handover: Option<Arc<Handover>>,
    already: Arc<Mutex<Already>>,
    reference: Option<Arc<Reference>>,
    book: Book,
    /// The last self-test came through.
    observing: Arc<AtomicBool>,
}

impl Running {
    /// Starts a thread for each ring.
    pub fn start(
        config: &ObserverConfig,
        identity: &Identity,
        store: &Arc<dyn Store>,
        probe: Probe,
        token: &CancellationToken,
    ) -> Result<(Self, Vec<JoinHandle<()>>), ProbeError> {
        let failed = |error: std::io::Error| ProbeError::Refused(error.to_string());
        let Probe { maps, routine, urgent, statistics, .. } = probe;
        let counters: Vec<OwnedFd> = (0..2)
            .map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(std::io::Error::from))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let ours: Vec<OwnedFd> = counters.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>().map_err(failed)?;
        let wakers = Wakers::new(ours);
        let (wake, containers_changed) = (wakers.clone(), Arc::new(Notify::new()));
        let changed = containers_changed.clone();
        let register = Arc::new(Register::new(maps.clone(), move || {
            wake.wake();
            changed.notify_one();
        })?);
        let handover = config.handover.as_deref().map(|file| Arc::new(Handover::new(file, identity)));
        if let Some(handover) = &handover {
            register.handed_on(handover.take());
        }
        let examiner = Arc::new(Examiner::new(&config.proc));
        let shared = Arc::new(Shared {
            register,
            examiner: examiner.clone(),
            maps: maps.clone(),
            proc: config.proc.clone(),
            wanted: Notify::new(),
            containers_changed,
            execs: Execs::default(),
            progress: Progress::default(),
            told: Told::default(),
            mappings: Tally::default(),
            libraries_refused: AtomicBool::new(false),
            runtime: AtomicBool::new(false),
            store: AtomicBool::new(true),
            self_test: watch::Sender::new(0),
        });
        let book = Book::open(maps.clone())?;
        let mut threads = Vec::new();
        let judge = Judge { identity: identity.clone(), examiner, maps, proc: config.proc.clone() };
        for (ring, wake) in [routine, urgent].into_iter().zip(counters) {
            let worker = Self::worker(config, &book, ring, wake, judge.clone(), shared.clone(), store.clone());
            let token = token.clone();
            let name = format!("ring-{}", <&str>::from(worker.ring.lane()));
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run(&token));
            threads.push(thread.map_err(failed)?);
        }
        let statistics = Arc::new(statistics);
        let misses = || statistics.recursion_misses().unwrap_or(0);
        let reference = match Reference::open(&config.tracefs, &shared.maps, misses) {
            Ok(reference) => Some(Arc::new(reference)),
            Err(error) => {
                tracing::info!(%error, category = error.category(), "the kernel's own count of execs is not to be had");
                None
            }
        };
        let already = Already::new(judge.clone(), store.clone(), shared.clone());
        let already = Arc::new(Mutex::new(already));
        let (stream, token) = (Stream::new(judge, shared.clone(), store.clone()), token.clone());
        let thread = std::thread::Builder::new().name("libraries".to_owned()).spawn(move || stream.run(&token));
        threads.push(thread.map_err(failed)?);
        let observing = Arc::new(AtomicBool::new(false));
        Ok((Self { shared, statistics, wakers, handover, already, reference, book, observing }, threads))
    }

    fn worker(
        config: &ObserverConfig,
        book: &Book,
        ring: Ring,
        wake: OwnedFd,
        judge: Judge,
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
    ) -> Worker {
        let ledger = Ledger::new(book.clone(), ring.lane(), ring.consumer());
        Worker::new(ring, ledger, wake, judge, shared, store, config.pending_age, config.pending_max)
    }

    /// Tests the whole way again and again.
    pub async fn test_again_and_again(self, command: Vec<OsString>) {
        loop {
            let came = self_test::run(&command, self.shared.self_test.subscribe()).await;
            if self.observing.swap(came, Ordering::Relaxed) != came {
                tracing::info!(came, "the self-test's record came through the ring, or does no longer");
            }
            sleep(SELF_TEST).await;
        }
    }

    fn compare(&self) -> Option<Compared> {
        // What can't be read is no 0: two counts without it would be no comparison.
        let unread = Cell::new(false);
        let misses = || {
            self.statistics.recursion_misses().unwrap_or_else(|_| {
                unread.set(true);
                0
            })
        };
        let compared = self.reference.as_ref()?.compare(&self.shared.maps, misses);
        if unread.get() {
            tracing::warn!("recursion misses can't be read: execs are not compared");
            return None;
        }
        compared.inspect_err(|error| tracing::debug!(%error, "execs can't be compared")).ok()
    }

    /// What is done each second: the heartbeat, what time changes, and what the node says of itself.
    pub fn look(&self) -> Result<Observed, ProbeError> {
        self.shared.maps.set_config(|config| config.heartbeat_ns = monotonic_ns())?;
        self.shared.register.tick();
        // Asked before the containers are armed: whoever is told that this node observes may rely on it.
        let settled = self.shared.register.is_settled();
        arm(&self.shared)?;
        let accounting = accounting(&self.shared, &self.book, &self.statistics)?;
        if settled {
            let mut already = self.already.lock().unwrap_or_else(PoisonError::into_inner);
            already.look()?;
        }
        let mut observed = Observed {
            accounting,
            mappings: self.shared.mappings.counts().into_iter().collect(),
            reference: self.compare(),
            kill_armed: self.shared.register.kills(),
            ..Observed::default()
        };
        let attached = self.observing.load(Ordering::Relaxed) && self.statistics.is_pinned();
        coverage(&self.shared, attached, &mut observed)?;
        observed.observing = attached && settled;
        Ok(observed)
    }
}
