//! Syncing: what was appended survives the loss of power.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::{
    Journal, JournalError, Stream,
    disk::{Change, Disk},
    store::Book,
};

/// What a sync has to do, and what is synced when it is done.
struct Round {
    disk: Disk,
    files: Vec<Unsynced>,
    folder: Option<PathBuf>,
    written: Vec<(Stream, u64)>,
    bytes: u64,
}

struct Unsynced {
    file: Arc<File>,
    path: PathBuf,
    // Bytes to write once more, because a sync failed.
    again: Option<u64>,
}

impl Round {
    fn run(&self) -> Result<(), JournalError> {
        for Unsynced { file, path, again } in &self.files {
            if let Some(bytes) = again {
                let mut buffer = vec![0; usize::try_from(*bytes).unwrap_or(0)];
                file.read_exact_at(&mut buffer, 0).map_err(|e| JournalError::io("read", path, e))?;
                self.disk.make(Change::Write(file, path, 0, &buffer))?;
            }
            self.disk.make(Change::Sync(file, path))?;
        }
        if let Some(folder) = &self.folder {
            self.disk.make(Change::SyncFolder(folder))?;
        }
        Ok(())
    }
}

impl Book {
    fn unsynced(&mut self) -> Round {
        let (mut files, mut written) = (Vec::new(), Vec::new());
        for (&stream, log) in &self.streams {
            written.push((stream, log.next));
            for segment in log.segments.iter().filter(|segment| segment.dirty) {
                let again = segment.doubtful.then_some(segment.used);
                files.extend(segment.file.clone().map(|file| Unsynced { file, path: segment.path.clone(), again }));
            }
        }
        let folder = self.folder_dirty.then(|| self.folder.clone());
        // Names that change from here on are for the next round.
        self.folder_dirty = false;
        Round { disk: self.disk.clone(), files, folder, written, bytes: std::mem::take(&mut self.unsynced) }
    }

    /// A round failed: all of it is to be done again.
    fn doubt(&mut self, round: &Round) {
        self.unsynced += round.bytes;
        self.folder_dirty |= round.folder.is_some();
        for segment in self.streams.values_mut().flat_map(|log| &mut log.segments).filter(|segment| segment.dirty) {
            segment.doubtful = true;
        }
    }

    /// A round is done. Whether anything is news.
    fn settled(&mut self, round: &Round) -> bool {
        self.counts.syncs += 1;
        let mut news = false;
        for &(stream, next) in &round.written {
            news |= self.state.synced.insert(stream, next) != Some(next);
            let Some(log) = self.streams.get_mut(&stream) else { continue };
            for segment in log.segments.iter_mut().filter(|segment| segment.extent.end <= next) {
                (segment.dirty, segment.doubtful) = (false, false);
                if segment.used == segment.size {
                    segment.release();
                }
            }
        }
        news
    }
}

impl Journal {
    /// Makes everything that was appended, or counted as lost, before the call survive the loss of power.
    ///
    /// # Errors
    /// If the file system refuses; nothing may be acknowledged then.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.sync_records()?;
        self.slots().sync()
    }

    /// The same for records alone.
    pub(super) fn sync_records(&self) -> Result<(), JournalError> {
        // Two at a time would each take the other's half for done.
        let _turn = self.inner.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let round = self.book().unsynced();
        let synced = round.run();
        let mut book = self.book();
        book.stuck.sync = synced.as_ref().err().map(ToString::to_string);
        if let Err(error) = synced {
            book.doubt(&round);
            return Err(error);
        }
        // Until this is written, damage to the newest records would pass for a write that was cut short.
        if book.settled(&round) { book.persist(false) } else { Ok(()) }
    }

    /// Syncs by time and by bytes until `token` is cancelled, and once more then. Records that are too old leave.
    pub async fn keep_synced(self, token: CancellationToken) {
        let interval = self.inner.limits.sync_interval;
        loop {
            let last = tokio::select! {
                () = token.cancelled() => true,
                () = tokio::time::sleep(interval) => false,
                () = self.inner.dirty.notified() => false,
            };
            let journal = self.clone();
            let synced = tokio::task::spawn_blocking(move || {
                journal.book().expire();
                let due = journal.book().unsynced > 0 || journal.slots().unsynced();
                if due { journal.sync() } else { Ok(()) }
            });
            if let Ok(Err(error)) = synced.await {
                tracing::error!(%error, category = error.category(), "the journal can't be synced");
            }
            if last {
                return;
            }
        }
    }
}
