//! The two-slot file: the newest whole slot counts, so a write that is cut short leaves the one before it. Each slot
//! holds its state twice: a flipped byte must not bring back an older one, under which other records went out.
//!
//! ```text
//! copy: magic 8 · generation 8 · length 4 · CRC32C of generation, length and JSON 4 · JSON · zeros
//! ```

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{
    JournalError,
    cursor::{Snapshot, State},
    disk::{self, Change, Disk},
};

/// Bytes of a slot.
pub const SLOT: usize = 32 * 1024;
const COPY: usize = SLOT / 2;
const HEADER: usize = 24;
const MAGIC: [u8; 8] = *b"ZASTAVA1";
/// Name of the file in the journal's folder.
pub const FILE: &str = "cursors";

/// The open file. Its lock keeps a second observer out and goes with the process.
#[derive(Debug)]
pub struct SlotFile {
    disk: Disk,
    file: File,
    path: PathBuf,
    generation: u64,
    // The slot that a power loss must find whole: never the one to write to.
    durable: u64,
    version: u64,
    unsynced: bool,
}

/// What the file held.
#[derive(Debug)]
pub enum Stored {
    /// Nothing: it was just made.
    Fresh,
    /// A state.
    State(Box<State>),
    /// Bytes, but no whole slot.
    Lost,
}

fn encode(state: &State, generation: u64) -> Result<Vec<u8>, JournalError> {
    let json = serde_json::to_vec(state)?;
    let (bytes, room) = (json.len(), COPY - HEADER);
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= room);
    let length = length.ok_or(JournalError::StateTooLarge { bytes, room })?;
    let mut slot = Vec::with_capacity(HEADER + bytes);
    slot.extend_from_slice(&MAGIC);
    slot.extend_from_slice(&generation.to_le_bytes());
    slot.extend_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&slot[8..20]), &json);
    slot.extend_from_slice(&crc.to_le_bytes());
    slot.extend_from_slice(&json);
    Ok(slot)
}

fn decode(slot: &[u8]) -> Option<(u64, State)> {
    let header = slot.get(..HEADER).filter(|header| header[..8] == MAGIC)?;
    let generation = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let length = u32::from_le_bytes(header[16..20].try_into().ok()?) as usize;
    let json = slot.get(HEADER..HEADER.checked_add(length)?)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[8..20]), json);
    if crc != u32::from_le_bytes(header[20..24].try_into().ok()?) {
        return None;
    }
    Some((generation, serde_json::from_slice(json).ok()?))
}

/// The newest whole state in the file's bytes, with its generation and slot.
pub fn newest(bytes: &[u8]) -> Option<(u64, u64, State)> {
    let copies = (0u64..).zip(bytes.chunks(COPY)).take(4);
    let whole = copies.filter_map(|(at, copy)| decode(copy).map(|(generation, state)| (generation, at / 2, state)));
    whole.max_by_key(|copy| copy.0)
}

impl Drop for SlotFile {
    /// A child that is between fork and exec holds the file too: the lock is given back, not left to the last of them.
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(path = %self.path.display(), %error, "the journal's lock was not given back");
        }
    }
}

impl SlotFile {
    /// Opens or makes the file and locks it.
    ///
    /// # Errors
    /// [`JournalError::InUse`] while another process holds it.
    pub fn open(disk: &Disk, folder: &Path) -> Result<(Self, Stored), JournalError> {
        let path = folder.join(FILE);
        let file = match disk::open(&path) {
            Err(error) if error.is_not_found() => disk.create(&path)?,
            opened => opened?,
        };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(JournalError::InUse { path });
        }
        let bytes = std::fs::read(&path).map_err(|e| JournalError::io("read", &path, e))?;
        let disk = disk.clone();
        let mut slots = Self { disk, file, path, generation: 0, durable: 0, version: 0, unsynced: false };
        // Room for both slots is taken now: the loss of records must be written when nothing else can be.
        slots.reserve()?;
        let stored = match newest(&bytes) {
            Some((generation, slot, state)) => {
                (slots.generation, slots.durable) = (generation, slot);
                // Whoever wrote it may have been killed before it was synced, and the other slot is written to next.
                slots.disk.make(Change::Sync(&slots.file, &slots.path))?;
                Stored::State(Box::new(state))
            }
            None if bytes.iter().all(|&byte| byte == 0) => Stored::Fresh,
            None => Stored::Lost,
        };
        Ok((slots, stored))
    }

    fn reserve(&self) -> Result<(), JournalError> {
        let room = 2 * SLOT as u64;
        match self.disk.make(Change::Reserve(&self.file, &self.path, room)) {
            Err(error) if error.is_unsupported() => self.disk.make(Change::SetLength(&self.file, &self.path, room)),
            reserved => reserved,
        }
    }

    /// Writes a state, unless a later one is here already; it survives the end of this process, and with `sync` the
    /// loss of power.
    ///
    /// # Errors
    /// If the state is too large or the file system refuses.
    pub fn write(&mut self, snapshot: &Snapshot, sync: bool) -> Result<(), JournalError> {
        let target = 1 - self.durable;
        if snapshot.version > self.version {
            let generation = self.generation + 1;
            let slot = encode(&snapshot.state, generation)?;
            for copy in [0, COPY] {
                let at = target * SLOT as u64 + copy as u64;
                self.disk.make(Change::Write(&self.file, &self.path, at, &slot))?;
            }
            (self.generation, self.version, self.unsynced) = (generation, snapshot.version, true);
        }
        if sync { self.sync() } else { Ok(()) }
    }

    /// Whether what was written last may be lost with the power.
    pub fn unsynced(&self) -> bool {
        self.unsynced
    }

    /// Makes the state that was written last survive the loss of power.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        if self.unsynced {
            self.disk.make(Change::Sync(&self.file, &self.path))?;
            (self.durable, self.unsynced) = (1 - self.durable, false);
        }
        Ok(())
    }
}
