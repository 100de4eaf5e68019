//! What became of each record: exact across a `kill -9` of the agent.
//!
//! The tally holds, in one value and so in one write, how far each ring is dealt with and how many records ended how.
//! A ring's consumer position follows it. Records that are dealt with before an older one are noted in `settled`, one
//! entry for each 128 bytes of ring (no record is smaller), so that they are not counted again by the next agent.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use zastava_crds::wire::event::LossReason;

use super::{Maps, ProbeError, ring::Ring};
use crate::pipeline::Lane;

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The store has it.
    Stored,
    /// The store has it, counted in one event with others.
    Combined,
    /// Judged and of no interest.
    Filtered,
    /// Dropped.
    Dropped(LossReason),
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::Stored,
        Self::Filtered,
        Self::Dropped(LossReason::PendingExpired),
        Self::Dropped(LossReason::JournalWrite),
        Self::Dropped(LossReason::JournalCorrupt),
        Self::Combined,
    ];

    /// 1 to 6: a position is a multiple of 8, so both fit in one word.
    fn code(self) -> u64 {
        match self {
            Self::Stored => 1,
            Self::Filtered => 2,
            Self::Dropped(LossReason::PendingExpired) => 3,
            Self::Dropped(LossReason::JournalCorrupt) => 5,
            Self::Dropped(_) => 4,
            Self::Combined => 6,
        }
    }

    fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.code() == code)
    }
}

/// The note on a record whose event is about to be told with others: what they are is fixed before they are told.
const GROUPED: u64 = 7;

/// Where the book is kept.
pub trait Pages: Send + Sync {
    /// The tally.
    fn tally(&self) -> Result<[u64; 16], ProbeError>;
    /// Writes it.
    fn set_tally(&self, tally: [u64; 16]) -> Result<(), ProbeError>;
    /// A note on a record.
    fn note(&self, index: u32) -> Result<u64, ProbeError>;
    /// Writes it.
    fn set_note(&self, index: u32, note: u64) -> Result<(), ProbeError>;
}

impl Pages for Maps {
    fn tally(&self) -> Result<[u64; 16], ProbeError> {
        Maps::tally(self)
    }

    fn set_tally(&self, tally: [u64; 16]) -> Result<(), ProbeError> {
        Maps::set_tally(self, tally)
    }

    fn note(&self, index: u32) -> Result<u64, ProbeError> {
        self.settled(index)
    }

    fn set_note(&self, index: u32, note: u64) -> Result<(), ProbeError> {
        self.set_settled(index, note)
    }
}

/// The book of both rings.
#[derive(Clone)]
pub struct Book {
    pages: Arc<dyn Pages>,
    tally: Arc<Mutex<[u64; 16]>>,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").field("tally", &self.tally).finish_non_exhaustive()
    }
}

/// Sums of the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// The store has them.
    pub stored: u64,
    /// Of these, counted in one event with others.
    pub combined: u64,
    /// Of no interest.
    pub filtered: u64,
    /// By reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Sums {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.stored + self.filtered + self.dropped.values().sum::<u64>()
    }
}

const fn position_at(lane: Lane) -> usize {
    match lane {
        Lane::Routine => 0,
        Lane::Urgent => 1,
    }
}

impl Book {
    /// Opens the book.
    pub fn open(pages: Arc<dyn Pages>) -> Result<Self, ProbeError> {
        let tally = Arc::new(Mutex::new(pages.tally()?));
        Ok(Self { pages, tally })
    }

    /// The sums so far.
    pub fn sums(&self) -> Sums {
        let tally = *self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = Sums::default();
        for (outcome, count) in Outcome::ALL.into_iter().zip(&tally[2..]) {
            match outcome {
                Outcome::Stored => sums.stored += *count,
                Outcome::Combined => {
                    sums.stored += *count;
                    sums.combined = *count;
                }
                Outcome::Filtered => sums.filtered = *count,
                Outcome::Dropped(reason) if *count > 0 => {
                    sums.dropped.insert(reason.into(), *count);
                }
                Outcome::Dropped(_) => {}
            }
        }
        sums
    }

    fn position(&self, lane: Lane) -> u64 {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)[position_at(lane)]
    }

    fn count(&self, lane: Lane, position: u64, outcomes: &[Outcome]) -> Result<(), ProbeError> {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = *tally;
        next[position_at(lane)] = position;
        for outcome in outcomes {
            next[usize::try_from(outcome.code()).unwrap_or(0) + 1] += 1;
        }
        self.pages.set_tally(next)?;
        *tally = next;
        Ok(())
    }
}

/// One ring's records that are read and not yet given back, oldest first.
#[derive(Debug)]
pub struct Ledger {
    book: Book,
    lane: Lane,
    /// Everything before is given back.
    consumed: u64,
    /// Where the next record is read.
    read: u64,
    open: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    position: u64,
    next: u64,
    outcome: Option<Outcome>,
    grouped: bool,
    /// A discarded one counts nowhere.
    silent: bool,
}

impl Ledger {
    /// The ledger of a ring whose consumer position is `consumer`: the tally may be ahead of it by an agent's death.
    pub fn new(book: Book, lane: Lane, consumer: u64) -> Self {
        let start = consumer.max(book.position(lane));
        Self { book, lane, consumed: start, read: start, open: VecDeque::new() }
    }

    /// Where the next record is to be read.
    pub fn position(&self) -> u64 {
        self.read
    }

    /// Up to where the ring may be given back.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Notes that a record was read. `Some` tells that an earlier agent has dealt with it.
    pub fn opened(&mut self, next: u64) -> Result<Option<Outcome>, ProbeError> {
        let position = self.read;
        let note = self.book.pages.note(self.index(position))?;
        let note = Some(note & 7).filter(|_| note & !7 == position);
        let (outcome, grouped) = (note.and_then(Outcome::from_code), note == Some(GROUPED));
        self.open.push_back(Entry { position, next, outcome, grouped, silent: false });
        self.read = next;
        Ok(outcome)
    }

    /// Whether an earlier agent was about to tell an open record with others: one group of each ring at most.
    pub fn was_grouped(&self, position: u64) -> bool {
        self.entry(position).is_some_and(|at| self.open[at].grouped)
    }

    /// Fixes which records one event stands for, before it is told.
    pub fn group(&mut self, members: &[u64]) -> Result<(), ProbeError> {
        for position in members {
            self.book.pages.set_note(self.index(*position), position | GROUPED)?;
        }
        Ok(())
    }

    /// Notes that the event of a group was told. The oldest, whose id the event has, is the last to be settled.
    pub fn settle_group(&mut self, members: &[u64], outcome: Outcome) -> Result<(), ProbeError> {
        for position in members.iter().rev() {
            self.settle(*position, outcome)?;
        }
        Ok(())
    }

    fn entry(&self, position: u64) -> Option<usize> {
        self.open.binary_search_by_key(&position, |entry| entry.position).ok()
    }

    /// Skips what the kernel discarded.
    pub fn skipped(&mut self, next: u64) {
        let entry = Entry { position: self.read, next, outcome: Some(Outcome::Filtered), grouped: false, silent: true };
        self.open.push_back(entry);
        self.read = next;
    }

    /// Notes how a record ended.
    pub fn settle(&mut self, position: u64, outcome: Outcome) -> Result<(), ProbeError> {
        let first = self.open.front().is_some_and(|entry| entry.position == position);
        let index = self.index(position);
        if let Some(at) = self.entry(position) {
            // The oldest needs no note: it is counted right away.
            if !first {
                self.book.pages.set_note(index, position | outcome.code())?;
            }
            self.open[at].outcome = Some(outcome);
        }
        self.collect()
    }

    /// Counts the settled ones at the front.
    pub fn collect(&mut self) -> Result<(), ProbeError> {
        let done = self.open.iter().take_while(|entry| entry.outcome.is_some()).count();
        let Some(last) = done.checked_sub(1).and_then(|last| self.open.get(last)) else { return Ok(()) };
        let next = last.next;
        let outcomes: Vec<Outcome> =
            self.open.iter().take(done).filter(|entry| !entry.silent).filter_map(|entry| entry.outcome).collect();
        self.book.count(self.lane, next, &outcomes)?;
        self.open.drain(..done);
        self.consumed = next;
        Ok(())
    }

    fn index(&self, position: u64) -> u32 {
        let base = match self.lane {
            Lane::Routine => 0,
            Lane::Urgent => Ring::bytes(Lane::Routine) / 128,
        };
        u32::try_from(base + (position & (Ring::bytes(self.lane) - 1)) / 128).unwrap_or(0)
    }
}

#[cfg(test)]
pub(crate) mod tests;
