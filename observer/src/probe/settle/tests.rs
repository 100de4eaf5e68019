use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Maps that outlive an agent.
#[derive(Default)]
pub(crate) struct Memory {
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

#[test]
fn a_group_is_the_same_to_the_next_agent_wherever_this_one_dies() {
    let members = [0, 2 * RECORD, 3 * RECORD];
    // So many of its members are settled when the agent dies.
    for settled in 0..=3 {
        let memory = Arc::new(Memory::default());
        let mut first = ledger(&memory, Lane::Urgent, 0);
        for n in 1..=4 {
            first.opened(n * RECORD).unwrap();
        }
        first.group(&members).unwrap();
        first.settle_group(&members[3 - settled..], Outcome::Combined).unwrap();

        let mut second = ledger(&memory, Lane::Urgent, 0);
        let mut again = Vec::new();
        while second.position() < 4 * RECORD {
            let position = second.position();
            if second.opened(position + RECORD).unwrap().is_none() && second.was_grouped(position) {
                again.push(position);
            }
        }
        assert_eq!(again, members[..3 - settled], "the oldest, which names the event, is settled last");
        second.settle_group(&again, Outcome::Combined).unwrap();
        second.settle(RECORD, Outcome::Filtered).unwrap();
        let sums = second.book.sums();
        assert_eq!((sums.combined, sums.stored, sums.total(), second.consumed()), (3, 3, 4, 4 * RECORD));
    }
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
