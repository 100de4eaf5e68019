//! One thread for each ring: reads, judges, stores, and only then gives back.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rustix::event::{Timespec, epoll};
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::event::LossReason;

use super::{Lane, Store, StoreError, judge::Judge, shared::Shared};
use crate::{
    probe::{
        ProbeError,
        record::{ExecRecord, flags},
        ring::{Item, Ring},
        settle::{Ledger, Outcome},
    },
    rules::Lookup,
};

/// The kernel wakes a reader of the routine ring only when that one has caught up, so it looks by itself as well.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Reads one ring.
pub struct Worker {
    pub ring: Ring,
    pub ledger: Ledger,
    pub wake: OwnedFd,
    pub judge: Judge,
    pub shared: Arc<Shared>,
    pub store: Arc<dyn Store>,
    pub pending_age: Duration,
    pub pending_max: usize,
    waiting: VecDeque<Waiting>,
}

/// A record that was read and can't be settled yet.
struct Waiting {
    position: u64,
    record: ExecRecord,
    since: Instant,
}

enum Step {
    Settled(Outcome),
    /// Its container is not known, or not what holds for it.
    Unknown,
    /// The store takes nothing.
    Stuck,
}

impl Worker {
    /// All but what waits.
    #[allow(clippy::too_many_arguments, reason = "a worker is made in one place, of these parts")]
    pub fn new(
        ring: Ring,
        ledger: Ledger,
        wake: OwnedFd,
        judge: Judge,
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
        pending_age: Duration,
        pending_max: usize,
    ) -> Self {
        let waiting = VecDeque::new();
        Self { ring, ledger, wake, judge, shared, store, pending_age, pending_max, waiting }
    }

    /// Runs until `token` ends it. What waits then is read again by the next agent.
    pub fn run(mut self, token: &CancellationToken) {
        let lane: &str = self.ring.lane().into();
        let poll = match self.poll() {
            Ok(poll) => poll,
            Err(error) => {
                tracing::error!(%error, lane, "the ring can't be waited for; it is looked at now and then");
                None
            }
        };
        let mut events = Vec::with_capacity(4);
        while !token.is_cancelled() {
            if let Err(error) = self.turn() {
                tracing::error!(%error, category = error.category(), lane, "records can't be settled, trying again");
            }
            events.clear();
            match &poll {
                Some(poll) => {
                    // An interrupted wait is a short one.
                    let _ = epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), Some(&LOOK));
                    let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
                }
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Edge-triggered: a ring that holds records on purpose is always readable.
    fn poll(&self) -> io::Result<Option<OwnedFd>> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poll, self.ring.as_fd(), epoll::EventData::new_u64(0), edge)?;
        epoll::add(&poll, &self.wake, epoll::EventData::new_u64(1), edge)?;
        Ok(Some(poll))
    }

    /// Everything that can be done now.
    fn turn(&mut self) -> Result<(), ProbeError> {
        let stuck = self.retry()?;
        if !stuck {
            self.read()?;
        }
        self.give_back();
        Ok(())
    }

    fn give_back(&mut self) {
        if self.ring.consumer() < self.ledger.consumed() {
            self.ring.advance(self.ledger.consumed());
        }
    }

    fn read(&mut self) -> Result<(), ProbeError> {
        loop {
            let position = self.ledger.position();
            let (decoded, next) = match self.ring.read(position) {
                None => return Ok(()),
                Some(Item::Discarded(next)) => {
                    self.ledger.skipped(next);
                    self.ledger.collect()?;
                    continue;
                }
                Some(Item::Record(bytes, next)) => (ExecRecord::decode(bytes), next),
            };
            if self.ledger.opened(next)?.is_some() {
                // An earlier agent has dealt with it.
                self.ledger.collect()?;
                continue;
            }
            let record = match decoded {
                Ok(record) => record,
                Err(error) => {
                    tracing::error!(%error, category = error.category(), "a record of the probe is dropped");
                    self.ledger.settle(position, Outcome::Dropped(LossReason::JournalCorrupt))?;
                    continue;
                }
            };
            match self.step(&record) {
                Step::Settled(outcome) => self.ledger.settle(position, outcome)?,
                Step::Unknown => self.wait(position, record)?,
                Step::Stuck => {
                    self.wait(position, record)?;
                    return Ok(());
                }
            }
            // Under load the kernel needs its room before the end of the burst.
            self.give_back();
        }
    }

    fn wait(&mut self, position: u64, record: ExecRecord) -> Result<(), ProbeError> {
        if self.waiting.len() >= self.pending_max
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.ledger.settle(oldest.position, Outcome::Dropped(LossReason::PendingExpired))?;
        }
        self.waiting.push_back(Waiting { position, record, since: Instant::now() });
        Ok(())
    }

    /// Tries what waits again, oldest first; tells whether the store is stuck.
    fn retry(&mut self) -> Result<bool, ProbeError> {
        let mut kept = VecDeque::new();
        let mut stuck = false;
        while let Some(waiting) = self.waiting.pop_front() {
            let step = if stuck { Step::Stuck } else { self.step(&waiting.record) };
            let outcome = match step {
                Step::Settled(outcome) => Some(outcome),
                Step::Unknown if waiting.since.elapsed() >= self.pending_age => {
                    self.shared.register.estrange(&waiting.record.container, waiting.since);
                    Some(Outcome::Dropped(LossReason::PendingExpired))
                }
                Step::Unknown => None,
                Step::Stuck => {
                    stuck = true;
                    None
                }
            };
            match outcome {
                Some(outcome) => self.ledger.settle(waiting.position, outcome)?,
                None => kept.push_back(waiting),
            }
        }
        self.waiting = kept;
        Ok(stuck)
    }

    fn step(&self, record: &ExecRecord) -> Step {
        if record.has(flags::SELF_TEST) {
            self.shared.self_test.send_replace(record.pid);
            return Step::Settled(Outcome::Filtered);
        }
        let (container, policies) = match self.shared.register.lookup(&record.container) {
            Lookup::Known(container, policies) => (container, policies),
            Lookup::Stranger => return Step::Settled(Outcome::Filtered),
            Lookup::Undecided => return Step::Unknown,
            Lookup::Unknown => {
                self.shared.wanted.notify_one();
                return Step::Unknown;
            }
        };
        let Some(event) = self.judge.judge(record, &container, &policies) else {
            return Step::Settled(Outcome::Filtered);
        };
        match self.store.append(Lane::from(event.severity), &event) {
            Ok(()) => {
                self.shared.store.store(true, Ordering::Relaxed);
                Step::Settled(Outcome::Stored)
            }
            Err(StoreError::Unavailable(why)) => {
                if self.shared.store.swap(false, Ordering::Relaxed) {
                    tracing::error!(why, "the journal takes nothing: records stay in the kernel's ring");
                }
                Step::Stuck
            }
            Err(error @ StoreError::Refused(_)) => {
                tracing::error!(%error, category = error.category(), "an event is dropped");
                Step::Settled(Outcome::Dropped(LossReason::JournalWrite))
            }
        }
    }
}
