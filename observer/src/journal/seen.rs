//! The last ids of each stream: a crash between the journal and the kernel's ring repeats events, and they are known by
//! these.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::{Stream, record::RecordId};

/// Ids of one stream that are remembered.
pub const REMEMBERED: usize = 4096;
/// Records of a stream that stay on the disk although every reader is done with them, so that their ids are known after
/// a crash: as many as the ring may repeat.
pub const KEPT: u64 = 256;

/// Ids, newest last.
#[derive(Debug, Default)]
pub struct Seen {
    order: BTreeMap<Stream, VecDeque<RecordId>>,
    set: HashSet<RecordId>,
}

impl Seen {
    /// Whether `id` is remembered.
    pub fn contains(&self, id: &RecordId) -> bool {
        self.set.contains(id)
    }

    /// Remembers `id`, and forgets the oldest of its stream beyond the bound.
    pub fn insert(&mut self, stream: Stream, id: RecordId) {
        if !self.set.insert(id) {
            return;
        }
        let order = self.order.entry(stream).or_default();
        order.push_back(id);
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}
