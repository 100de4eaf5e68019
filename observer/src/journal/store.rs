//! The journal itself: appending, syncing, and what it tells of itself.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use zastava_crds::wire::event::LossReason;

use super::{
    CursorName, JournalError, Limits, LossWindow, Stream,
    clock::Clock,
    cursor::{Extent, Snapshot, State},
    disk::Disk,
    record::{Record, RecordId},
    seen::Seen,
    segment::Segment,
    slots::SlotFile,
};

/// What became of a record that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It survives the end of this process.
    Stored,
    /// It was here already.
    Repeat,
}

/// The journal. Clones share it; everything in it blocks, and must not be called from an async task.
#[derive(Clone, Debug)]
pub struct Journal {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub limits: Limits,
    pub boot_id: String,
    // Order of locks: book, then slots. Syncs of data happen under neither.
    pub book: Mutex<Book>,
    pub slots: Arc<Mutex<SlotFile>>,
    // Taken before either of them.
    pub syncing: Mutex<()>,
    pub appended: Notify,
    pub dirty: Notify,
}

/// All that is known of the files.
#[derive(Debug)]
pub(super) struct Book {
    pub disk: Disk,
    pub clock: Clock,
    pub folder: PathBuf,
    pub limits: Limits,
    pub streams: BTreeMap<Stream, Log>,
    pub state: State,
    pub bytes: u64,
    pub unsynced: u64,
    pub folder_dirty: bool,
    // Changes with each eviction, so that a reader without the lock knows when to look again.
    pub evictions: u64,
    pub seen: Seen,
    pub counts: Counts,
    // Why appending, or syncing, failed the last time.
    pub stuck: Stuck,
    slots: Arc<Mutex<SlotFile>>,
    version: u64,
    buffer: Vec<u8>,
}

/// Why the last append and the last sync failed, if they did.
#[derive(Clone, Debug, Default)]
pub(super) struct Stuck {
    pub append: Option<String>,
    pub sync: Option<String>,
}

/// One stream's segments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub segments: VecDeque<Segment>,
    pub next: u64,
}

/// Counters since this process opened the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records stored.
    pub stored: u64,
    /// Bytes that they took.
    pub bytes: u64,
    /// Records that were here already.
    pub repeats: u64,
    /// Records refused for want of room.
    pub refused: u64,
    /// Segments evicted.
    pub evicted_segments: u64,
    /// Syncs.
    pub syncs: u64,
}

impl Book {
    pub fn new(
        outside: (Disk, Clock),
        folder: PathBuf,
        limits: Limits,
        slots: Arc<Mutex<SlotFile>>,
        state: State,
    ) -> Self {
        let (disk, clock) = outside;
        Self {
            disk,
            clock,
            folder,
            limits,
            streams: BTreeMap::new(),
            state,
            bytes: 0,
            unsynced: 0,
            // An earlier process may have left names unsynced.
            folder_dirty: true,
            evictions: 0,
            seen: Seen::default(),
            counts: Counts::default(),
            stuck: Stuck::default(),
            slots,
            version: 0,
            buffer: Vec::new(),
        }
    }

    /// The state as it is now.
    pub fn snapshot(&mut self) -> Snapshot {
        self.version += 1;
        Snapshot { version: self.version, state: self.state.clone() }
    }

    /// Writes the state.
    pub fn persist(&mut self, sync: bool) -> Result<(), JournalError> {
        let snapshot = self.snapshot();
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).write(&snapshot, sync)
    }

    fn append(&mut self, stream: Stream, id: RecordId, payload: &str) -> Result<(), JournalError> {
        let at_ms = self.clock.now_ms();
        let seq = self.streams.entry(stream).or_default().next;
        let mut buffer = std::mem::take(&mut self.buffer);
        Record { seq, at_ms, id, payload }.encode(&mut buffer);
        let written = self.place(stream, payload.len(), &buffer, at_ms);
        self.counts.bytes += if written.is_ok() { buffer.len() as u64 } else { 0 };
        self.unsynced += if written.is_ok() { buffer.len() as u64 } else { 0 };
        self.buffer = buffer;
        written
    }

    fn place(&mut self, stream: Stream, len: usize, bytes: &[u8], at_ms: u64) -> Result<(), JournalError> {
        loop {
            if !self.active(stream).is_some_and(|segment| segment.fits(len)) {
                self.roll(stream)?;
            }
            let (disk, clock) = (self.disk.clone(), self.clock.clone());
            let Some(segment) = self.active(stream) else { return Err(JournalError::Full) };
            match segment.write(&disk, bytes, at_ms, &clock) {
                Ok(()) => break,
                // Only where nothing could be preallocated: make room as if the segment had not been made.
                Err(error) if error.is_full() => self.make_room(stream).map_err(|_| error)?,
                Err(error) => return Err(error),
            }
        }
        if let Some(log) = self.streams.get_mut(&stream) {
            log.next += 1;
        }
        Ok(())
    }

    fn active(&mut self, stream: Stream) -> Option<&mut Segment> {
        self.streams.get_mut(&stream)?.segments.back_mut().filter(|segment| segment.file.is_some())
    }

    /// Ends the segment that is written to and begins the next.
    fn roll(&mut self, stream: Stream) -> Result<(), JournalError> {
        let mut freed = 0;
        let disk = self.disk.clone();
        if let Some(segment) = self.active(stream) {
            let before = segment.size;
            segment.seal(&disk)?;
            freed = before - segment.size;
        }
        self.bytes -= freed;
        self.drop_done();
        self.expire();
        let size = self.limits.segment_bytes;
        while self.bytes + size > self.limits.total_bytes {
            self.make_room(stream)?;
        }
        loop {
            let base = self.streams.get(&stream).map_or(0, |log| log.next);
            match Segment::create(&disk, &self.folder, stream, base, size) {
                Ok(segment) => {
                    self.bytes += size;
                    self.folder_dirty = true;
                    self.streams.entry(stream).or_default().segments.push_back(segment);
                    return Ok(());
                }
                Err(error) if error.is_full() => self.make_room(stream).map_err(|_| error)?,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Journal {
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends one record. `payload` is text so that it can't pose as a record when damage is searched.
    ///
    /// # Errors
    /// [`JournalError::Full`] if there is no room and none can be made at the cost of something milder: the loss is
    /// counted for every reader. Other errors may pass, nothing was stored or counted.
    pub fn append(&self, stream: Stream, id: RecordId, payload: &str) -> Result<Appended, JournalError> {
        let (bytes, bound) = (payload.len(), self.inner.limits.record_bytes);
        if bytes > bound {
            return Err(JournalError::RecordTooLarge { bytes, bound });
        }
        let mut book = self.book();
        if book.seen.contains(&id) {
            book.counts.repeats += 1;
            return Ok(Appended::Repeat);
        }
        let evictions = book.evictions;
        let mut outcome = book.append(stream, id, payload);
        match &outcome {
            Ok(()) => {
                book.counts.stored += 1;
                book.seen.insert(stream, id);
                book.stuck.append = None;
            }
            Err(error) => {
                book.stuck.append = Some(error.to_string());
                if error.is_full() {
                    outcome = Err(JournalError::Full);
                }
            }
        }
        if matches!(outcome, Err(JournalError::Full)) {
            book.counts.refused += 1;
            let now = book.clock.now();
            book.lose(LossReason::JournalWrite, LossWindow { count: 1, from: now, until: now });
        }
        // The record's fate is settled, whether or not this can be written: to try it again would count it twice.
        if (book.evictions != evictions || matches!(outcome, Err(JournalError::Full)))
            && let Err(error) = book.persist(false)
        {
            tracing::error!(%error, category = error.category(), "the journal's losses can't be written");
            book.stuck.append = Some(error.to_string());
        }
        let ask = book.unsynced >= self.inner.limits.sync_bytes;
        drop(book);
        if ask {
            self.inner.dirty.notify_one();
        }
        self.inner.appended.notify_one();
        outcome.map(|()| Appended::Stored)
    }

    /// Counts events that were lost before they reached the journal, for every reader to tell.
    ///
    /// # Errors
    /// If the count can't be written; it is kept in memory all the same.
    pub fn lose(&self, reason: LossReason, window: LossWindow) -> Result<(), JournalError> {
        let mut book = self.book();
        book.lose(reason, window);
        book.persist(false)?;
        drop(book);
        self.inner.appended.notify_one();
        Ok(())
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, SlotFile> {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to read, at most for `patience`.
    pub async fn wait(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.inner.appended.notified()).await;
    }

    /// Records that `cursor` is not done with, those of a batch in flight included.
    pub fn pending(&self, cursor: CursorName) -> u64 {
        let book = self.book();
        let Some(reader) = book.state.cursors.get(&cursor) else { return 0 };
        let left = book.streams.iter().map(|(&stream, log)| {
            let extent = Extent { start: reader.done(stream), end: log.next };
            extent.end.saturating_sub(extent.start).saturating_sub(book.state.holes_in(stream, &extent))
        });
        left.sum()
    }

    /// The last batch of `cursor` whose receipt has arrived, 0 before the first.
    pub fn acknowledged(&self, cursor: CursorName) -> u64 {
        self.book().state.cursors.get(&cursor).map_or(0, |reader| reader.seq.saturating_sub(1))
    }

    /// Why the last write or sync failed, while none has succeeded since.
    pub fn stuck(&self) -> Option<String> {
        let stuck = self.book().stuck.clone();
        stuck.append.or(stuck.sync)
    }

    /// Bytes that segments take of the disk.
    pub fn bytes(&self) -> u64 {
        self.book().bytes
    }

    /// Bytes that segments may take.
    pub fn capacity(&self) -> u64 {
        self.inner.limits.total_bytes
    }

    /// Counters since the journal was opened.
    pub fn counts(&self) -> Counts {
        self.book().counts
    }

    /// Name of this journal: `seq` of its batches never repeats under it.
    pub fn name(&self) -> String {
        self.book().state.journal.clone()
    }
}
