//! How fast a journal takes and gives on this disk: events of a usual size, synced as the agent syncs them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use zastava_crds::wire::event::Severity;

use super::{BatchBound, CursorName, Journal, JournalError, Limits, RecordId, Stream};
use crate::pipeline::Lane;

/// Bytes of a drift event with its process and its file.
const USUAL: usize = 900;
/// As the reports to the intake are bounded.
const BOUND: BatchBound = BatchBound { records: 1000, bytes: 1 << 20, overhead: 64 };

/// What a journal did.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Events.
    pub records: u64,
    /// Bytes of each.
    pub record_bytes: usize,
    /// Appended a second, each with a write(2) of its own and the syncs beside it.
    pub appended_per_second: u64,
    /// Read, checked and acknowledged a second.
    pub read_per_second: u64,
}

/// What can't be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A journal may lie there.
    #[error("{} is not empty: name a folder that is not there yet, on the disk that is asked about", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// More than a journal holds.
    #[error("--records {asked}: a journal holds at most {most} such records; ask for fewer")]
    TooMany {
        /// What was asked for.
        asked: u64,
        /// What fits.
        most: u64,
    },
    /// The folder.
    #[error("{}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The journal itself.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl MeasureError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotEmpty { .. } => "measure_not_empty",
            Self::TooMany { .. } => "measure_too_many",
            Self::Folder { .. } => "measure_folder",
            Self::Journal(error) => error.category(),
        }
    }
}

/// Writes `records` events to a journal in `folder`, reads them back, and takes the folder away again. Must be called
/// within a tokio runtime of several threads.
///
/// # Errors
/// [`MeasureError`]; a folder with anything in it is not touched.
pub async fn measure(folder: &Path, records: u64) -> Result<Measured, MeasureError> {
    let failed = |source| MeasureError::Folder { path: folder.to_owned(), source };
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(MeasureError::NotEmpty { path: folder.to_owned() });
    }
    let limits = Limits::default();
    // Half, so that nothing is evicted whatever a record weighs beside its payload.
    let most = limits.total_bytes / 2 / USUAL as u64;
    if records == 0 || records > most {
        return Err(MeasureError::TooMany { asked: records, most });
    }
    let (journal, _) = Journal::open(folder, limits, &[CursorName::Report], "measured")?;
    let token = CancellationToken::new();
    let syncing = tokio::spawn(journal.clone().keep_synced(token.clone()));
    let timed = journal.clone();
    let done = tokio::task::spawn_blocking(move || run(&timed, records)).await;
    token.cancel();
    let _ = syncing.await;
    drop(journal);
    fs::remove_dir_all(folder).map_err(failed)?;
    let (appending, reading) = done.map_err(|error| failed(io::Error::other(error)))??;
    Ok(Measured {
        records,
        record_bytes: USUAL,
        appended_per_second: rate(records, appending),
        read_per_second: rate(records, reading),
    })
}

fn run(journal: &Journal, records: u64) -> Result<(Duration, Duration), JournalError> {
    let stream = Stream { severity: Severity::High, lane: Lane::Urgent };
    let payload = format!("{{\"n\":\"{}\"}}", "x".repeat(USUAL - r#"{"n":""}"#.len()));
    let began = Instant::now();
    for n in 0..records {
        let mut id = RecordId::default();
        id[..8].copy_from_slice(&n.to_le_bytes());
        journal.append(stream, id, &payload)?;
    }
    let appending = began.elapsed();
    let began = Instant::now();
    while let Some(batch) = journal.begin(CursorName::Report, BOUND)? {
        journal.acknowledge(CursorName::Report, batch.seq)?;
    }
    Ok((appending, began.elapsed()))
}

fn rate(records: u64, took: Duration) -> u64 {
    let nanoseconds = took.as_nanos().max(1);
    u64::try_from(u128::from(records) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_of_its_own_is_measured_and_no_other_touched() {
        let folder = TempDir::new().unwrap();
        let own = folder.path().join("own");
        let measured = measure(&own, 2000).await.unwrap();
        assert!(measured.appended_per_second > 0 && measured.read_per_second > 0, "{measured:?}");
        assert!(!own.exists());
        fs::write(folder.path().join("cursors"), b"somebody's").unwrap();
        assert!(matches!(measure(folder.path(), 1).await, Err(MeasureError::NotEmpty { .. })));
        assert!(folder.path().join("cursors").exists());
        assert!(matches!(measure(&own, 1 << 40).await, Err(MeasureError::TooMany { .. })));
        assert!(matches!(measure(&own, 0).await, Err(MeasureError::TooMany { .. })));
    }
}
