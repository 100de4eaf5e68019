//! What can go wrong with the journal.

use std::{io, path::PathBuf};

use super::cursor::CursorName;

/// Why the journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("journal: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process holds the folder.
    #[error("journal: {} is in use by another observer", path.display())]
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The state no longer fits a slot.
    #[error("journal: the state needs {bytes} bytes, a slot has {room}")]
    StateTooLarge {
        /// Bytes needed.
        bytes: usize,
        /// Bytes of a slot.
        room: usize,
    },
    /// The state cannot be written as JSON.
    #[error("journal: cannot encode the state: {0}")]
    State(#[from] serde_json::Error),
    /// A record over the bound of [`super::Limits::record_bytes`].
    #[error("journal: a record of {bytes} bytes exceeds the bound of {bound}")]
    RecordTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bound: usize,
    },
    /// No room, and nothing that matters less could make any: the record is lost and counted.
    #[error("journal: full, and nothing of this or a lower severity is left to evict")]
    Full,
    /// A receipt for a batch that is not in flight.
    #[error("journal: cursor {cursor} has no batch {seq} in flight")]
    NotInFlight {
        /// Whose batch.
        cursor: CursorName,
        /// Its number.
        seq: u64,
    },
    /// Bounds that leave no room to work in.
    #[error("journal: {field} is {value}: {fix}")]
    Limits {
        /// The bound.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What would do.
        fix: &'static str,
    },
}

impl JournalError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::InUse { .. } => "in_use",
            Self::StateTooLarge { .. } | Self::State(_) => "state",
            Self::RecordTooLarge { .. } => "record_too_large",
            Self::Full => "full",
            Self::NotInFlight { .. } => "not_in_flight",
            Self::Limits { .. } => "limits",
        }
    }

    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    /// What was asked for is not to be had on this file system.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported)
    }

    /// There is no such file.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// No room on the file system, or in the quota on it: the only errors that eviction can cure.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
