//! One thread for each ring: reads, judges, stores, and only then gives back.

mod groups;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rustix::event::{Timespec, epoll};
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::event::{EventDetail, LossReason, RuntimeEvent};

use super::{
    Lane, Store, StoreError,
    judge::{Judge, process},
    shared::Shared,
    throttle::{Group, Offer, Throttle},
};
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

/// Between two looks at what has become calm.
const CALM: Duration = Duration::from_secs(1);

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
    throttle: Throttle,
    /// A group whose members are noted and whose event was not taken yet: one at a time.
    closing: Option<Group>,
    /// Members of a group that an earlier agent was about to tell.
    orphaned: Vec<Waiting>,
    calmed: Instant,
    /// The last question of [`Progress`](super::progress::Progress), and where the ring ended then.
    asked: (u64, u64),
}

/// A record that was read and can't be settled yet.
struct Waiting {
    position: u64,
    record: ExecRecord,
    /// What it became, and the store did not take yet: it is judged, and killed for, once.
    event: Option<Box<RuntimeEvent>>,
    since: Instant,
}

enum Step {
    Settled(Outcome),
    /// It is told with others, later.
    Combined,
    /// Its container is not known, or not what holds for it.
    Unknown,
    /// The store takes nothing, so this neither.
    Stuck(Box<RuntimeEvent>),
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
        Self {
            ring,
            ledger,
            wake,
            judge,
            shared,
            store,
            pending_age,
            pending_max,
            waiting: VecDeque::new(),
            throttle: Throttle::default(),
            closing: None,
            orphaned: Vec::new(),
            calmed: Instant::now(),
            asked: (0, 0),
        }
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
        if let Err(error) = self.tell_groups(true) {
            tracing::error!(%error, category = error.category(), lane, "the next agent tells what was combined");
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
        // Of a group that was read in part the rest would be told once more.
        if !stuck && self.read()? {
            self.adopt_group()?;
        }
        self.tell_groups(false)?;
        if self.calmed.elapsed() >= CALM {
            self.calmed = Instant::now();
            for notice in self.throttle.stopped(self.calmed) {
                self.notice(&notice);
            }
        }
        self.give_back();
        self.answer();
        Ok(())
    }

    /// Tells those who ask that all was judged that was in the ring when they did.
    fn answer(&mut self) {
        let question = self.shared.progress.question();
        if question != self.asked.0 {
            self.asked = (question, self.ring.end());
        }
        let unjudged = self.waiting.iter().find(|waiting| waiting.event.is_none());
        let unjudged = unjudged.into_iter().chain(self.orphaned.first()).map(|waiting| waiting.position);
        if unjudged.fold(self.ledger.position(), u64::min) >= self.asked.1 {
            self.shared.progress.answer(self.ring.lane(), self.asked.0);
        }
    }

    fn give_back(&mut self) {
        if self.ring.consumer() < self.ledger.consumed() {
            self.ring.advance(self.ledger.consumed());
        }
    }

    /// Reads what there is; whether it came to the ring's end.
    fn read(&mut self) -> Result<bool, ProbeError> {
        loop {
            let position = self.ledger.position();
            let (decoded, next) = match self.ring.read(position) {
                None => return Ok(true),
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
            if self.ledger.was_grouped(position) {
                self.orphaned.push(Waiting { position, record, event: None, since: Instant::now() });
                continue;
            }
            match self.step(position, &record) {
                Step::Settled(outcome) => self.ledger.settle(position, outcome)?,
                Step::Combined => {
                    if self.throttle.is_full() && self.tell_groups(false)? {
                        return Ok(false);
                    }
                }
                Step::Unknown => self.wait(position, record, None)?,
                Step::Stuck(event) => {
                    self.wait(position, record, Some(event))?;
                    return Ok(false);
                }
            }
            // Under load the kernel needs its room before the end of the burst, and whoever asks an answer.
            self.give_back();
            self.answer();
        }
    }

    fn wait(&mut self, position: u64, record: ExecRecord, event: Option<Box<RuntimeEvent>>) -> Result<(), ProbeError> {
        if self.waiting.len() >= self.pending_max
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.ledger.settle(oldest.position, Outcome::Dropped(LossReason::PendingExpired))?;
        }
        self.waiting.push_back(Waiting { position, record, event, since: Instant::now() });
        Ok(())
    }

    /// Tries what waits again, oldest first; tells whether the store is stuck.
    fn retry(&mut self) -> Result<bool, ProbeError> {
        let mut kept = VecDeque::new();
        let mut stuck = false;
        while let Some(mut waiting) = self.waiting.pop_front() {
            if stuck {
                kept.push_back(waiting);
                continue;
            }
            let step = match waiting.event.take() {
                Some(event) => self.keep(event),
                None => self.step(waiting.position, &waiting.record),
            };
            let outcome = match step {
                Step::Settled(outcome) => Some(outcome),
                Step::Combined => continue,
                Step::Unknown if waiting.since.elapsed() >= self.pending_age => {
                    self.shared.register.estrange(&waiting.record.container, waiting.since);
                    Some(Outcome::Dropped(LossReason::PendingExpired))
                }
                Step::Unknown => None,
                Step::Stuck(event) => {
                    waiting.event = Some(event);
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

    fn step(&mut self, position: u64, record: &ExecRecord) -> Step {
        let event = match self.look(record) {
            Ok(event) => event,
            Err(step) => return step,
        };
        match self.throttle.offer(position, event, Instant::now()) {
            Offer::Through(event) => self.keep(Box::new(event)),
            Offer::Combined(notice) => {
                if let Some(notice) = notice {
                    tracing::info!(container = record.container, "a container is noisy: its events are combined");
                    self.notice(&notice);
                }
                Step::Combined
            }
        }
    }

    /// What a record becomes, or why it does not become an event.
    fn look(&self, record: &ExecRecord) -> Result<RuntimeEvent, Step> {
        if record.has(flags::SELF_TEST) {
            self.shared.self_test.send_replace(record.pid);
            return Err(Step::Settled(Outcome::Filtered));
        }
        let (container, policies) = match self.shared.register.lookup(&record.container) {
            Lookup::Known(container, policies) => (container, policies),
            Lookup::Stranger => return Err(Step::Settled(Outcome::Filtered)),
            Lookup::Undecided => return Err(Step::Unknown),
            Lookup::Unknown => {
                self.shared.wanted.notify_one();
                return Err(Step::Unknown);
            }
        };
        if policies.iter().any(|policy| policy.libraries.is_some()) {
            self.shared.execs.put(record, process(record));
        }
        let event = self.judge.judge(record, &container, &policies).ok_or(Step::Settled(Outcome::Filtered))?;
        // Of what could not be judged nothing was told: it may be found running.
        if matches!(event.detail, EventDetail::Drift { .. }) {
            self.shared.told.put(record);
        }
        Ok(event)
    }

    /// Says that throttling started or stopped. It is of no use later.
    fn notice(&self, notice: &RuntimeEvent) {
        if let Err(error) = self.store.append(Lane::from(notice.severity), notice) {
            tracing::debug!(%error, category = error.category(), "a notice of throttling is not kept");
        }
    }

    fn keep(&self, event: Box<RuntimeEvent>) -> Step {
        match self.store.append(Lane::from(event.severity), &event) {
            Ok(()) => {
                self.shared.store.store(true, Ordering::Relaxed);
                Step::Settled(Outcome::Stored)
            }
            Err(StoreError::Unavailable(why)) => {
                if self.shared.store.swap(false, Ordering::Relaxed) {
                    tracing::error!(why, "the journal takes nothing: records stay in the kernel's ring");
                }
                Step::Stuck(event)
            }
            Err(error @ StoreError::Refused(_)) => {
                tracing::error!(%error, category = error.category(), "an event is dropped");
                Step::Settled(Outcome::Dropped(LossReason::JournalWrite))
            }
        }
    }
}
