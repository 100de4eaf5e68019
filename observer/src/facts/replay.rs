//! From recorded events to facts, across nodes.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Read as _, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use zastava_crds::{
    canonical::CanonicalError,
    wire::event::{EVENT_SCHEMA, RuntimeEvent},
};

use super::{Aggregate, MAX_FACTS, Untold};
use crate::journal::{JournalError, MAX_RECORD_BYTES, RecordId, inspect::payloads};

/// Different events that one replay reads at most.
pub const MAX_EVENTS: usize = 4_000_000;

/// A printed line at most: a record, and what stands around it.
const MAX_LINE: usize = MAX_RECORD_BYTES + 1024;

/// Why there are no facts.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file can't be read.
    #[error("{}: can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// More events than one replay reads.
    #[error("more than {MAX_EVENTS} events: replay fewer journals at once")]
    TooMany,
    /// A fact has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Nobody takes the lines.
    #[error("facts can't be printed: {0}")]
    Write(#[from] io::Error),
}

impl ReplayError {
    /// The closed class of this error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Journal(error) => error.category(),
            Self::Read { .. } => "read",
            Self::TooMany => "too_many",
            Self::Canonical(error) => error.category(),
            Self::Write(_) => "write",
        }
    }
}

/// A line that `journal show` printed.
#[derive(Deserialize)]
struct Printed {
    event: RuntimeEvent,
}

struct Replay {
    facts: Aggregate,
    /// A journal may be given twice, as a folder and as what was printed of it: an event is one event.
    seen: HashSet<RecordId>,
}

/// Writes the facts of all `recordings`: folders of journals, or files of what `journal show` printed.
///
/// # Errors
/// If one can't be read, there are too many events, or nobody takes the lines.
pub fn replay(recordings: &[PathBuf], out: impl Write) -> Result<Untold, ReplayError> {
    let mut replay = Replay { facts: Aggregate::new(MAX_FACTS), seen: HashSet::new() };
    for recording in recordings {
        if recording.is_dir() {
            payloads(recording, |payload| replay.take(payload.and_then(|text| serde_json::from_str(text).ok())))?;
        } else {
            replay.read(recording)?;
        }
    }
    replay.facts.write(out)
}

impl Replay {
    fn take(&mut self, event: Option<RuntimeEvent>) -> Result<(), ReplayError> {
        let Some(event) = event.filter(|event| event.schema == EVENT_SCHEMA) else {
            self.facts.add_unreadable();
            return Ok(());
        };
        let mut id = RecordId::default();
        if hex::decode_to_slice(&event.event_id.0, &mut id).is_err() {
            self.facts.add_unreadable();
            return Ok(());
        }
        if self.seen.contains(&id) {
            return Ok(());
        }
        if self.seen.len() >= MAX_EVENTS {
            return Err(ReplayError::TooMany);
        }
        self.facts.add(&event);
        self.seen.insert(id);
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<(), ReplayError> {
        let unread = |source| ReplayError::Read { path: path.to_owned(), source };
        let mut lines = BufReader::new(File::open(path).map_err(unread)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let bound = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
            if lines.by_ref().take(bound).read_until(b'\n', &mut line).map_err(unread)? == 0 {
                return Ok(());
            }
            if line.len() >= MAX_LINE && line.last() != Some(&b'\n') {
                lines.skip_until(b'\n').map_err(unread)?;
                self.take(None)?;
                continue;
            }
            self.take(serde_json::from_slice::<Printed>(&line).ok().map(|printed| printed.event))?;
        }
    }
}

#[cfg(test)]
mod tests;
