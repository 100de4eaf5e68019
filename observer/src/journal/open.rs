//! Opening: whatever state the files are in, what can be read is kept and the rest is counted.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    CursorName, Journal, JournalError, Limits,
    clock::Clock,
    cursor::{Cursor, State},
    disk::{Change, Disk},
    seen::REMEMBERED,
    segment::{self, Segment},
    slots::{SlotFile, Stored},
    store::{Book, Inner, Log},
};

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Undamaged records.
    pub records: u64,
    /// Stretches of damage.
    pub damages: u64,
    /// Writes that were cut short.
    pub torn: u64,
    /// Neither slot of the cursors was whole: everything is sent again, under another journal's name.
    pub state_lost: bool,
}

fn fresh_state() -> State {
    // The hasher's keys come from the kernel's randomness: all a name has to be is another than the last.
    let name = format!("{:016x}", RandomState::new().build_hasher().finish());
    State { journal: name, synced: BTreeMap::new(), holes: BTreeMap::new(), cursors: BTreeMap::new() }
}

impl Journal {
    /// Opens or makes the journal in `folder` for these readers. A reader that is no longer among them is forgotten.
    ///
    /// # Errors
    /// [`JournalError::InUse`], [`JournalError::Limits`], or if the folder can't be read and written.
    pub fn open(
        folder: &Path,
        limits: Limits,
        readers: &[CursorName],
        boot_id: &str,
    ) -> Result<(Self, Recovery), JournalError> {
        Self::open_on((Disk::default(), Clock::default()), folder, limits, readers, boot_id)
    }

    /// The same on a disk and by a clock of a test's.
    pub(crate) fn open_on(
        (disk, clock): (Disk, Clock),
        folder: &Path,
        limits: Limits,
        readers: &[CursorName],
        boot_id: &str,
    ) -> Result<(Self, Recovery), JournalError> {
        limits.check()?;
        disk.make(Change::MakeFolder(folder))?;
        let (slots, stored) = SlotFile::open(&disk, folder)?;
        let mut recovery = Recovery::default();
        let mut state = match stored {
            Stored::State(state) => *state,
            Stored::Fresh => fresh_state(),
            Stored::Lost => {
                recovery.state_lost = true;
                fresh_state()
            }
        };
        state.cursors.retain(|name, _| readers.contains(name));
        for &reader in readers {
            state.cursors.entry(reader).or_default();
        }
        let slots = Arc::new(Mutex::new(slots));
        let mut book = Book::new((disk, clock), folder.to_owned(), limits, Arc::clone(&slots), state);
        book.load(&mut recovery)?;
        let inner = Inner {
            limits,
            boot_id: boot_id.to_owned(),
            book: Mutex::new(book),
            slots,
            syncing: Mutex::new(()),
            appended: Notify::new(),
            dirty: Notify::new(),
        };
        let journal = Self { inner: Arc::new(inner) };
        // The journal's name must be on the disk before a batch is sent under it.
        journal.book().persist(true)?;
        Ok((journal, recovery))
    }
}

impl Book {
    fn load(&mut self, recovery: &mut Recovery) -> Result<(), JournalError> {
        let entries = fs::read_dir(&self.folder).map_err(|e| JournalError::io("list", &self.folder, e))?;
        let mut ids = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(|e| JournalError::io("list", &self.folder, e))?;
            let name = entry.file_name();
            let Some((stream, base)) = name.to_str().and_then(segment::parse_name) else { continue };
            let (mut segment, contents) = Segment::open(entry.path(), base, REMEMBERED)?;
            recovery.records += contents.records;
            recovery.damages += contents.damages;
            recovery.torn += u64::from(contents.torn);
            let hole = self.state.holes_in(stream, &segment.extent);
            if contents.records == 0 || hole >= segment.extent.end - segment.extent.start {
                // Nothing to read, or evicted and counted just before the process ended.
                self.discard(&segment)?;
                continue;
            }
            // A date in the future is a clock that was wrong: such a record is as old as its reading.
            segment.aged = Duration::from_millis(self.clock.now_ms().saturating_sub(segment.times.1));
            segment.touched = self.clock.elapsed();
            if segment.extent.end > self.state.synced.get(&stream).copied().unwrap_or(0) {
                segment.doubt()?;
                self.unsynced += segment.used;
            }
            ids.entry((stream, base)).or_insert(contents.last_ids);
            self.streams.entry(stream).or_default().segments.push_back(segment);
        }
        // Folders are listed in no order, and the newest ids are those that count.
        for ((stream, _), ids) in ids {
            for id in ids {
                self.seen.insert(stream, id);
            }
        }
        let known = self.state.synced.keys().copied().collect::<Vec<_>>();
        for stream in known {
            self.streams.entry(stream).or_default();
        }
        for (&stream, log) in &mut self.streams {
            log.segments.make_contiguous().sort_by_key(|segment| segment.extent.start);
            log.next = next(&self.state, stream, log);
            for segment in &mut log.segments {
                segment.seal(&self.disk)?;
                self.bytes += segment.size;
            }
        }
        Ok(())
    }
}

/// A number that no record of `stream` can have had, whatever of them was lost.
fn next(state: &State, stream: super::Stream, log: &Log) -> u64 {
    let found = log.segments.back().map_or(0, |segment| segment.extent.end);
    let synced = state.synced.get(&stream).copied().unwrap_or(0);
    let used = |cursor: &Cursor| {
        let held = cursor.in_flight.as_ref().and_then(|batch| batch.extents.get(&stream)).map_or(0, |e| e.end);
        held.max(cursor.done(stream))
    };
    let told = state.cursors.values().map(used).max().unwrap_or(0);
    let evicted = state.holes.get(&stream).into_iter().flatten().map(|hole| hole.end).max().unwrap_or(0);
    found.max(synced).max(told).max(evicted)
}
