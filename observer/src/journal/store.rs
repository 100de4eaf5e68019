//! The journal itself: appending, syncing, and what it tells of itself.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::event::LossReason;

use super::{
    CursorName, JournalError, Limits, LossWindow, Stream,
    cursor::{Extent, Snapshot, State},
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
    pub slots: Mutex<SlotFile>,
    pub appended: Notify,
    pub dirty: Notify,
}

/// All that is known of the files.
#[derive(Debug)]
pub(super) struct Book {
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
    pub stuck: Option<String>,
    version: u64,
    buffer: Vec<u8>,
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

/// Now, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

impl Book {
    pub fn new(folder: PathBuf, limits: Limits, state: State) -> Self {
        Self {
            folder,
            limits,
            streams: BTreeMap::new(),
            state,
            bytes: 0,
            unsynced: 0,
            folder_dirty: false,
            evictions: 0,
            seen: Seen::default(),
            counts: Counts::default(),
            stuck: None,
            version: 0,
            buffer: Vec::new(),
        }
    }

    /// The state as it is now.
    pub fn snapshot(&mut self) -> Snapshot {
        self.version += 1;
        Snapshot { version: self.version, state: self.state.clone() }
    }

    fn append(&mut self, stream: Stream, id: RecordId, payload: &str) -> Result<(), JournalError> {
        let at_ms = now_ms();
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
            let Some(segment) = self.active(stream) else { return Err(JournalError::Full) };
            match segment.write(bytes, at_ms) {
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
        if let Some(segment) = self.active(stream) {
            let before = segment.size;
            segment.seal()?;
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
            match Segment::create(&self.folder, stream, base, size) {
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
                book.stuck = None;
            }
            Err(error) => {
                book.stuck = Some(error.to_string());
                if error.is_full() {
                    outcome = Err(JournalError::Full);
                }
            }
        }
        if matches!(outcome, Err(JournalError::Full)) {
            book.counts.refused += 1;
            let now = Timestamp::now();
            book.lose(LossReason::JournalWrite, LossWindow { count: 1, from: now, until: now });
            self.persist(&mut book, false)?;
        } else if book.evictions != evictions {
            self.persist(&mut book, false)?;
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
        self.persist(&mut book, false)?;
        drop(book);
        self.inner.appended.notify_one();
        Ok(())
    }

    /// Writes the state of `book`.
    pub(super) fn persist(&self, book: &mut Book, sync: bool) -> Result<(), JournalError> {
        self.write(&book.snapshot(), sync)
    }

    /// Writes a state, unless a later one has been written.
    pub(super) fn write(&self, snapshot: &Snapshot, sync: bool) -> Result<(), JournalError> {
        let mut slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.write(snapshot, sync)
    }

    /// Makes everything that was appended before the call survive the loss of power.
    ///
    /// # Errors
    /// If the file system refuses; nothing may be acknowledged then.
    pub fn sync(&self) -> Result<(), JournalError> {
        let (files, folder, written) = {
            let mut book = self.book();
            let mut files = Vec::new();
            let mut written = Vec::new();
            for (&stream, log) in &mut book.streams {
                written.push((stream, log.next));
                for segment in log.segments.iter_mut().filter(|segment| segment.dirty) {
                    files.extend(segment.file.clone().map(|file| (file, segment.path.clone())));
                }
            }
            book.unsynced = 0;
            (files, book.folder_dirty.then(|| book.folder.clone()), written)
        };
        for (file, path) in &files {
            file.sync_data().map_err(|e| JournalError::io("sync", path, e))?;
        }
        if let Some(folder) = &folder {
            let synced = std::fs::File::open(folder).and_then(|file| file.sync_all());
            synced.map_err(|e| JournalError::io("sync", folder, e))?;
        }
        let mut book = self.book();
        book.counts.syncs += 1;
        if folder.is_some() {
            book.folder_dirty = false;
        }
        let mut news = false;
        for (stream, next) in written {
            news |= book.state.synced.insert(stream, next) != Some(next);
            let Some(log) = book.streams.get_mut(&stream) else { continue };
            for segment in log.segments.iter_mut().filter(|segment| segment.extent.end <= next) {
                segment.dirty = false;
                if segment.used == segment.size {
                    segment.release();
                }
            }
        }
        // Until this is written, damage to the newest records would pass for a write that was cut short.
        if news { self.persist(&mut book, false) } else { Ok(()) }
    }

    /// Syncs by time and by bytes until `token` is cancelled, and once more then.
    pub async fn keep_synced(self, token: CancellationToken) {
        let interval = self.inner.limits.sync_interval;
        loop {
            let last = tokio::select! {
                () = token.cancelled() => true,
                () = tokio::time::sleep(interval) => false,
                () = self.inner.dirty.notified() => false,
            };
            let journal = self.clone();
            let synced =
                tokio::task::spawn_blocking(move || if journal.book().unsynced > 0 { journal.sync() } else { Ok(()) });
            if let Ok(Err(error)) = synced.await {
                tracing::error!(%error, category = error.category(), "the journal can't be synced");
                self.book().stuck = Some(error.to_string());
            }
            if last {
                return;
            }
        }
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

    /// Why the last write failed, while none has succeeded since.
    pub fn stuck(&self) -> Option<String> {
        self.book().stuck.clone()
    }

    /// Bytes that segments take of the disk.
    pub fn bytes(&self) -> u64 {
        self.book().bytes
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
