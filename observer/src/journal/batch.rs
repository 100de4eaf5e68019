//! Batches: what goes out under one mark. A batch's extent is on the disk before it is sent, so that what is sent again
//! after a crash is the very same.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use zastava_crds::wire::event::LossReason;

use super::{
    CursorName, Journal, JournalError, LossWindow, Stream,
    cursor::{Extent, InFlight, Losses},
    record::{Found, Record, Scan},
    segment,
    store::Book,
};

/// Bounds of one batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchBound {
    /// Records.
    pub records: usize,
    /// Bytes of payload, each record counted with `overhead` more.
    pub bytes: usize,
    /// Bytes that sending adds to a record.
    pub overhead: usize,
}

/// A batch on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number under the journal's name.
    pub seq: u64,
    /// Payloads, the most severe stream first, each stream in order.
    pub payloads: Vec<String>,
    /// Losses to tell with it.
    pub losses: Losses,
    /// Boot of the node when it was formed.
    pub boot_id: String,
}

/// Where a stream's records are to be looked for.
struct Shelf {
    stream: Stream,
    extent: Extent,
    segments: Vec<(PathBuf, u64, u64)>,
}

/// What was taken off the shelves.
#[derive(Default)]
struct Taken {
    payloads: Vec<String>,
    extents: BTreeMap<Stream, Extent>,
    found: BTreeMap<Stream, u64>,
    bytes: usize,
}

impl Taken {
    /// Whether one more payload still fits.
    fn fits(&self, len: usize, bound: BatchBound) -> bool {
        self.payloads.len() < bound.records
            && (self.payloads.is_empty() || self.bytes + len + bound.overhead <= bound.bytes)
    }

    /// Takes from one shelf. False when the bound is met.
    fn take(&mut self, from: &Shelf, bound: BatchBound) -> bool {
        let mut extent = Extent { start: from.extent.start, end: from.extent.start };
        let mut open = true;
        'segments: for (path, base, used) in &from.segments {
            let bytes = match segment::read(path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    // Its records are missed by their numbers and counted as damaged.
                    tracing::error!(path = %path.display(), %error, "a segment can't be read");
                    continue;
                }
            };
            let end = usize::try_from(*used).unwrap_or(usize::MAX).min(bytes.len());
            for found in Scan::new(&bytes[..end], *base) {
                let Found::Record(Record { seq, payload, .. }, _) = found else { continue };
                if seq < extent.start || seq >= from.extent.end {
                    continue;
                }
                if !self.fits(payload.len(), bound) {
                    open = false;
                    break 'segments;
                }
                self.bytes += payload.len() + bound.overhead;
                self.payloads.push(payload.to_owned());
                *self.found.entry(from.stream).or_default() += 1;
                extent.end = seq + 1;
            }
        }
        if open {
            extent.end = from.extent.end;
        }
        if extent.end > extent.start {
            self.extents.insert(from.stream, extent);
        }
        open
    }
}

impl Book {
    fn shelf(&self, stream: Stream, extent: Extent) -> Shelf {
        let segments = self.streams.get(&stream).into_iter().flat_map(|log| &log.segments);
        let segments = segments
            .filter(|segment| segment.extent.overlap(&extent) > 0)
            .map(|segment| (segment.path.clone(), segment.extent.start, segment.used))
            .collect();
        Shelf { stream, extent, segments }
    }

    /// What `cursor` may take, the most severe first.
    fn shelves(&self, cursor: CursorName) -> Vec<Shelf> {
        let Some(reader) = self.state.cursors.get(&cursor) else { return Vec::new() };
        let streams = self.streams.iter().rev();
        let open = streams.map(|(&stream, log)| (stream, Extent { start: reader.done(stream), end: log.next }));
        open.filter(|(_, extent)| extent.end > extent.start)
            .map(|(stream, extent)| self.shelf(stream, extent))
            .collect()
    }

    /// How many records of what was taken are nowhere.
    fn missing(&self, taken: &Taken) -> u64 {
        let missing = taken.extents.iter().map(|(stream, extent)| {
            let found = taken.found.get(stream).copied().unwrap_or(0);
            (extent.end - extent.start).saturating_sub(found).saturating_sub(self.state.holes_in(*stream, extent))
        });
        missing.sum()
    }

    /// Puts what was taken on its way.
    fn send(&mut self, cursor: CursorName, taken: &Taken, boot_id: &str) {
        let missing = self.missing(taken);
        let Some(reader) = self.state.cursors.get_mut(&cursor) else { return };
        reader.lose(LossReason::JournalCorrupt, window(missing));
        reader.in_flight = Some(InFlight {
            seq: reader.seq,
            extents: taken.extents.clone(),
            losses: std::mem::take(&mut reader.losses),
            boot_id: boot_id.to_owned(),
            missing,
        });
    }

    /// Records of the batch on its way that were lost since it was formed are told with the next one: what goes out
    /// under its own mark may have been counted already, and stays as near to that as it can.
    fn recount(&mut self, cursor: CursorName, taken: &Taken) {
        let missing = self.missing(taken);
        let Some(reader) = self.state.cursors.get_mut(&cursor) else { return };
        let Some(batch) = &mut reader.in_flight else { return };
        let more = missing.saturating_sub(batch.missing);
        batch.missing += more;
        reader.lose(LossReason::JournalCorrupt, window(more));
    }
}

fn window(count: u64) -> LossWindow {
    let now = Timestamp::now();
    LossWindow { count, from: now, until: now }
}

impl Journal {
    /// The batch in flight, or a new one, on the disk before this returns. None if there is nothing to tell.
    ///
    /// # Errors
    /// If records or state can't be made durable: nothing may be sent then.
    pub fn begin(&self, cursor: CursorName, bound: BatchBound) -> Result<Option<Batch>, JournalError> {
        loop {
            let (in_flight, shelves, evictions) = {
                let book = self.book();
                let reader = book.state.cursors.get(&cursor);
                let in_flight = reader.and_then(|reader| reader.in_flight.clone());
                let shelves = match &in_flight {
                    Some(batch) => batch.extents.iter().rev().map(|(&s, &extent)| book.shelf(s, extent)).collect(),
                    None if reader.is_some_and(|r| !r.losses.is_empty()) || book.unread(cursor) => book.shelves(cursor),
                    None => return Ok(None),
                };
                (in_flight, shelves, book.evictions)
            };
            let mut taken = Taken::default();
            let whole = BatchBound { records: usize::MAX, bytes: usize::MAX, overhead: 0 };
            let bound = if in_flight.is_some() { whole } else { bound };
            for shelf in &shelves {
                if !taken.take(shelf, bound) {
                    break;
                }
            }
            // What is in flight holds its segments; anything else may have been evicted while it was read.
            self.sync_records()?;
            let mut book = self.book();
            if in_flight.is_none() {
                if book.evictions != evictions {
                    continue;
                }
                book.send(cursor, &taken, &self.inner.boot_id);
            } else {
                book.recount(cursor, &taken);
            }
            let snapshot = book.snapshot();
            drop(book);
            // Written even if it was in memory already: the write before may have failed.
            self.slots().write(&snapshot, true)?;
            let reader = snapshot.state.cursors.get(&cursor);
            let Some(batch) = reader.and_then(|reader| reader.in_flight.clone()) else { return Ok(None) };
            return Ok(Some(Batch {
                seq: batch.seq,
                payloads: taken.payloads,
                losses: batch.losses,
                boot_id: batch.boot_id,
            }));
        }
    }

    /// The receipt of batch `seq` has arrived: `cursor` moves on.
    ///
    /// # Errors
    /// [`JournalError::NotInFlight`] for another batch than the one in flight.
    pub fn acknowledge(&self, cursor: CursorName, seq: u64) -> Result<(), JournalError> {
        let mut book = self.book();
        let reader = book.state.cursors.get_mut(&cursor).filter(|r| r.in_flight.as_ref().is_some_and(|b| b.seq == seq));
        let reader = reader.ok_or(JournalError::NotInFlight { cursor, seq })?;
        let batch = reader.in_flight.take();
        for (stream, extent) in batch.into_iter().flat_map(|batch| batch.extents) {
            reader.acknowledged += extent.end - extent.start;
            reader.done.insert(stream, extent.end);
        }
        reader.seq = seq + 1;
        // Not synced: after a loss of power the same batch goes out once more under the same mark, which adds nothing.
        book.persist(false)?;
        book.drop_done();
        Ok(())
    }
}

impl Book {
    fn unread(&self, cursor: CursorName) -> bool {
        let Some(reader) = self.state.cursors.get(&cursor) else { return false };
        self.streams.iter().any(|(&stream, log)| log.next > reader.done(stream))
    }
}
