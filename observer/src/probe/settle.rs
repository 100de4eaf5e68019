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
    /// Judged and of no interest.
    Filtered,
    /// Dropped.
    Dropped(LossReason),
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Stored,
        Self::Filtered,
        Self::Dropped(LossReason::PendingExpired),
        Self::Dropped(LossReason::JournalWrite),
        Self::Dropped(LossReason::JournalCorrupt),
    ];

    /// 1 to 5: a position is a multiple of 8, so both fit in one word.
    fn code(self) -> u64 {
        match self {
            Self::Stored => 1,
            Self::Filtered => 2,
            Self::Dropped(LossReason::PendingExpired) => 3,
            Self::Dropped(LossReason::JournalCorrupt) => 5,
            Self::Dropped(_) => 4,
        }
    }

    fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.code() == code)
    }
}

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
                Outcome::Stored => sums.stored = *count,
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
        let outcome = if note & !7 == position { Outcome::from_code(note & 7) } else { None };
        self.open.push_back(Entry { position, next, outcome, silent: false });
        self.read = next;
        Ok(outcome)
    }

    /// Skips what the kernel discarded.
    pub fn skipped(&mut self, next: u64) {
        let entry = Entry { position: self.read, next, outcome: Some(Outcome::Filtered), silent: true };
        self.open.push_back(entry);
        self.read = next;
    }

    /// Notes how a record ended.
    pub fn settle(&mut self, position: u64, outcome: Outcome) -> Result<(), ProbeError> {
        let first = self.open.front().is_some_and(|entry| entry.position == position);
        let index = self.index(position);
        if let Ok(at) = self.open.binary_search_by_key(&position, |entry| entry.position) {
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
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Maps that outlive an agent.
    #[derive(Default)]
    struct Memory {
        tally: Mutex<[u64; 16]>,
        notes: Mutex<HashMap<u32, u64>>,
    }

    impl Pages for Memory {
        fn tally(&self) -> Result<[u64; 16], ProbeError> {
            Ok(*self.tally.lock().unwrap())
        }
        fn set_tally(&self, tally: [u64; 16]) -> Result<(), ProbeError> {
            *self.tally.lock().unwrap() = tally;
            Ok(())
        }
        fn note(&self, index: u32) -> Result<u64, ProbeError> {
            Ok(self.notes.lock().unwrap().get(&index).copied().unwrap_or(0))
        }
        fn set_note(&self, index: u32, note: u64) -> Result<(), ProbeError> {
            self.notes.lock().unwrap().insert(index, note);
            Ok(())
        }
    }

    const RECORD: u64 = 256;

    fn ledger(memory: &Arc<Memory>, lane: Lane, consumer: u64) -> Ledger {
        Ledger::new(Book::open(memory.clone()).unwrap(), lane, consumer)
    }

    #[test]
    fn a_record_that_waits_holds_back_what_is_given_back_and_nothing_else() {
        let memory = Arc::new(Memory::default());
        let mut first = ledger(&memory, Lane::Urgent, 0);
        for n in 1..=3 {
            assert_eq!(first.opened(n * RECORD).unwrap(), None);
        }
        first.settle(RECORD, Outcome::Stored).unwrap();
        first.settle(2 * RECORD, Outcome::Filtered).unwrap();
        assert_eq!((first.consumed(), first.book.sums().total()), (0, 0));

        // The agent dies here; the ring was given back to nowhere.
        let mut second = ledger(&memory, Lane::Urgent, 0);
        assert_eq!(second.opened(RECORD).unwrap(), None);
        assert_eq!(second.opened(2 * RECORD).unwrap(), Some(Outcome::Stored));
        assert_eq!(second.opened(3 * RECORD).unwrap(), Some(Outcome::Filtered));
        second.settle(0, Outcome::Dropped(LossReason::PendingExpired)).unwrap();
        assert_eq!(second.consumed(), 3 * RECORD);
        let sums = second.book.sums();
        assert_eq!((sums.stored, sums.filtered, sums.total()), (1, 1, 3));
        assert_eq!(sums.dropped, BTreeMap::from([("pending_expired", 1)]));

        // Counted, but the ring not yet given back: the tally knows better.
        assert_eq!(ledger(&memory, Lane::Urgent, 0).position(), 3 * RECORD);
    }

    #[test]
    fn lanes_do_not_touch_each_other() {
        let memory = Arc::new(Memory::default());
        let (mut routine, mut urgent) = (ledger(&memory, Lane::Routine, 0), ledger(&memory, Lane::Urgent, 0));
        for ledger in [&mut routine, &mut urgent] {
            ledger.opened(RECORD).unwrap();
            ledger.opened(2 * RECORD).unwrap();
        }
        routine.settle(RECORD, Outcome::Stored).unwrap();
        assert_eq!(ledger(&memory, Lane::Urgent, 0).opened(RECORD).unwrap(), None);
        let mut again = ledger(&memory, Lane::Urgent, 0);
        again.opened(RECORD).unwrap();
        assert_eq!(again.opened(2 * RECORD).unwrap(), None, "a note of the other lane is none of this one's");
    }

    proptest! {
        /// Whenever the agent dies, each record is counted once in the end.
        #[test]
        fn each_record_counts_once(order in Just((0..24_u64).collect::<Vec<_>>()).prop_shuffle(), deaths in proptest::collection::vec(0..24_usize, 0..4)) {
            let memory = Arc::new(Memory::default());
            let reopen = |memory: &Arc<Memory>| {
                let mut ledger = ledger(memory, Lane::Routine, 0);
                let mut done = Vec::new();
                while ledger.position() < 24 * RECORD {
                    let position = ledger.position();
                    if ledger.opened(position + RECORD).unwrap().is_some() {
                        done.push(position);
                    }
                }
                ledger.collect().unwrap();
                (ledger, done)
            };
            let (mut current, _) = reopen(&memory);
            for (at, record) in order.iter().enumerate() {
                if deaths.contains(&at) {
                    let (next, done) = reopen(&memory);
                    for position in done {
                        prop_assert!(order[..at].contains(&(position / RECORD)));
                    }
                    current = next;
                }
                current.settle(record * RECORD, Outcome::Stored).unwrap();
            }
            prop_assert_eq!(current.book.sums().stored, 24);
            prop_assert_eq!(current.consumed(), 24 * RECORD);
        }
    }
}
