//! Every change to the journal's files goes through here, in the order in which the kernel is asked for it: so a test can
//! refuse any of them, or cut the power behind it.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use rustix::fs::FallocateFlags;

use super::JournalError;

/// A change that is about to be made.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A folder, with those above it.
    MakeFolder(&'a Path),
    /// A new, empty file.
    Create(&'a Path),
    /// Blocks for a file's first bytes, which read as zeros.
    Reserve(&'a File, &'a Path, u64),
    /// Bytes at an offset.
    Write(&'a File, &'a Path, u64, &'a [u8]),
    /// A file's length.
    SetLength(&'a File, &'a Path, u64),
    /// A file's bytes and length survive the loss of power.
    Sync(&'a File, &'a Path),
    /// The names in a folder do.
    SyncFolder(&'a Path),
    /// A file under another name.
    Rename(&'a Path, &'a Path),
    /// A file is gone.
    Remove(&'a Path),
    /// A folder is gone with all in it.
    RemoveFolder(&'a Path),
}

impl Change<'_> {
    fn make(&self) -> io::Result<()> {
        match *self {
            Self::MakeFolder(path) => fs::create_dir_all(path),
            Self::Create(path) => OpenOptions::new().write(true).create_new(true).open(path).map(drop),
            Self::Reserve(file, _, bytes) => Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)?),
            Self::Write(file, _, at, bytes) => file.write_all_at(bytes, at),
            Self::SetLength(file, _, bytes) => file.set_len(bytes),
            Self::Sync(file, _) => file.sync_data(),
            Self::SyncFolder(path) => File::open(path)?.sync_all(),
            Self::Rename(from, to) => fs::rename(from, to),
            Self::Remove(path) => fs::remove_file(path),
            Self::RemoveFolder(path) => fs::remove_dir_all(path),
        }
    }

    fn error(&self, source: io::Error) -> JournalError {
        let (action, path) = match *self {
            Self::MakeFolder(path) | Self::Create(path) => ("create", path),
            Self::Reserve(_, path, _) => ("preallocate", path),
            Self::Write(_, path, ..) => ("write", path),
            Self::SetLength(_, path, _) => ("truncate", path),
            Self::Sync(_, path) | Self::SyncFolder(path) => ("sync", path),
            Self::Rename(path, _) => ("rename", path),
            Self::Remove(path) | Self::RemoveFolder(path) => ("remove", path),
        };
        JournalError::io(action, path, source)
    }
}

/// Who is told of changes before they are made, and may refuse them.
pub trait Watcher: fmt::Debug + Send + Sync {
    /// `change` is about to be made.
    ///
    /// # Errors
    /// The change is not made, and fails with this.
    fn before(&self, change: &Change<'_>) -> io::Result<()>;
}

/// The file system as the journal sees it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    watcher: Option<Arc<dyn Watcher>>,
}

impl Disk {
    /// One whose changes go by `watcher` first.
    #[cfg(test)]
    pub fn watched(watcher: Arc<dyn Watcher>) -> Self {
        Self { watcher: Some(watcher) }
    }

    /// Makes a change.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn make(&self, change: Change<'_>) -> Result<(), JournalError> {
        let allowed = self.watcher.as_ref().map_or(Ok(()), |watcher| watcher.before(&change));
        allowed.and_then(|()| change.make()).map_err(|e| change.error(e))
    }

    /// Makes a file that was not there, and opens it.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create(&self, path: &Path) -> Result<File, JournalError> {
        self.make(Change::Create(path))?;
        open(path)
    }
}

/// Opens a file to read and to write.
///
/// # Errors
/// If it is not there, or may not be opened.
pub fn open(path: &Path) -> Result<File, JournalError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|e| JournalError::io("open", path, e))
}
