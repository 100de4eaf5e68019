//! Bounds of the journal.

use std::time::Duration;

use super::JournalError;

/// Bytes of a record's payload at most, whatever the settings say: a batch must hold at least one.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// Bounds of the journal.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all segments together, preallocated or used.
    pub total_bytes: u64,
    /// Bytes of one segment as it is preallocated: the grain of eviction.
    pub segment_bytes: u64,
    /// Bytes of one record's payload.
    pub record_bytes: usize,
    /// Age at which a record leaves, sent or not: the intake forgets pods after as long.
    pub age: Duration,
    /// Bytes written since the last fsync that ask for one.
    pub sync_bytes: u64,
    /// Time after which written bytes are synced in any case.
    pub sync_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_bytes: 128 << 20,
            segment_bytes: 1 << 20,
            record_bytes: MAX_RECORD_BYTES,
            age: Duration::from_hours(24),
            sync_bytes: 1 << 20,
            sync_interval: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// Says whether the bounds leave room to work in.
    ///
    /// # Errors
    /// [`JournalError::Limits`] names the first bound that does not.
    pub fn check(&self) -> Result<(), JournalError> {
        if self.record_bytes == 0 || self.record_bytes > MAX_RECORD_BYTES {
            let value = self.record_bytes as u64;
            return Err(JournalError::Limits { field: "recordBytes", value, fix: "use 1 to 65536" });
        }
        if self.segment_bytes < 2 * self.record_bytes as u64 {
            let value = self.segment_bytes;
            return Err(JournalError::Limits { field: "segmentBytes", value, fix: "use twice recordBytes or more" });
        }
        if self.total_bytes < 4 * self.segment_bytes {
            let value = self.total_bytes;
            return Err(JournalError::Limits {
                field: "totalBytes",
                value,
                fix: "use four times segmentBytes or more",
            });
        }
        Ok(())
    }
}
