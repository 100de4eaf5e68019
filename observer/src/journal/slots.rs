//! The two-slot file: the newest whole slot counts, so a write that is cut short leaves the one before it.
//!
//! ```text
//! slot: magic 8 · generation 8 · length 4 · CRC32C of generation, length and JSON 4 · JSON · zeros
//! ```

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, FlockOperation};

use super::{
    JournalError,
    cursor::{Snapshot, State},
};

/// Bytes of a slot.
pub const SLOT: usize = 32 * 1024;
const HEADER: usize = 24;
const MAGIC: [u8; 8] = *b"ZASTAVA1";
/// Name of the file in the journal's folder.
pub const FILE: &str = "cursors";

/// The open file. Its lock keeps a second observer out and goes with the process.
#[derive(Debug)]
pub struct SlotFile {
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
    let (bytes, room) = (json.len(), SLOT - HEADER);
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
    let slots = (0u64..).zip(bytes.chunks(SLOT)).take(2);
    slots.filter_map(|(at, slot)| decode(slot).map(|(generation, state)| (generation, at, state))).max_by_key(|s| s.0)
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
    pub fn open(folder: &Path) -> Result<(Self, Stored), JournalError> {
        let path = folder.join(FILE);
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(|e| JournalError::io("open", &path, e))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(JournalError::InUse { path });
        }
        let bytes = std::fs::read(&path).map_err(|e| JournalError::io("read", &path, e))?;
        let mut slots = Self { file, path, generation: 0, durable: 0, version: 0, unsynced: false };
        // Room for both slots is taken now: the loss of records must be written when nothing else can be.
        slots.reserve()?;
        let stored = match newest(&bytes) {
            Some((generation, slot, state)) => {
                (slots.generation, slots.durable) = (generation, slot);
                Stored::State(Box::new(state))
            }
            None if bytes.iter().all(|&byte| byte == 0) => Stored::Fresh,
            None => Stored::Lost,
        };
        Ok((slots, stored))
    }

    fn reserve(&self) -> Result<(), JournalError> {
        let room = 2 * SLOT as u64;
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, room) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(room).map_err(|e| self.error("reserve", e)),
            Err(errno) => Err(self.error("reserve", errno)),
        }
    }

    fn error(&self, action: &'static str, source: impl Into<std::io::Error>) -> JournalError {
        JournalError::io(action, &self.path, source)
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
            self.file.write_all_at(&slot, target * SLOT as u64).map_err(|e| self.error("write", e))?;
            (self.generation, self.version, self.unsynced) = (generation, snapshot.version, true);
        }
        if sync && self.unsynced {
            self.file.sync_data().map_err(|e| self.error("sync", e))?;
            (self.durable, self.unsynced) = (target, false);
        }
        Ok(())
    }
}
