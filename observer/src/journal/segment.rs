//! Segment files: a stretch of one stream, preallocated so that a full disk is met when a segment is made and not later.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::Advice;

use super::{
    JournalError,
    clock::Clock,
    cursor::Extent,
    disk::{self, Change, Disk},
    record::{Found, Record, RecordId, Scan},
    stream::Stream,
};

/// Suffix of segment files.
pub const SUFFIX: &str = ".seg";

/// One segment.
#[derive(Debug)]
pub struct Segment {
    /// Where it lies.
    pub path: PathBuf,
    /// Numbers of its records; those in between that are damaged count too.
    pub extent: Extent,
    /// Bytes it takes of the disk.
    pub size: u64,
    /// Bytes that records take.
    pub used: u64,
    /// Earliest and latest date of its records, in milliseconds since 1970: the date may have jumped back in between.
    pub times: (u64, u64),
    /// Age of its last record at `touched`.
    pub aged: Duration,
    /// When this process last wrote to it, or first read it, by [`Clock::elapsed`].
    pub touched: Duration,
    /// It holds bytes that are no record.
    pub damaged: bool,
    /// Open while it can be written.
    pub file: Option<Arc<File>>,
    /// Written since it was last synced.
    pub dirty: bool,
    /// A sync failed: the kernel may take its bytes for written, so they are written once more before the next.
    pub doubtful: bool,
}

/// What a segment's bytes told.
#[derive(Debug, Default)]
pub struct Contents {
    /// Undamaged records.
    pub records: u64,
    /// Stretches of damage with records behind them.
    pub damages: u64,
    /// It ends in a write that was cut short.
    pub torn: bool,
    /// Runs of numbers of undamaged records, rising.
    pub runs: Vec<Extent>,
    /// Ids of the last records, newest last.
    pub last_ids: Vec<RecordId>,
}

/// The stream and first number in a segment's file name.
pub fn parse_name(name: &str) -> Option<(Stream, u64)> {
    let (stream, base) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    Some((stream.parse().ok()?, base.parse().ok()?))
}

/// A segment's bytes. They don't stay in the page cache, which counts as this program's memory.
///
/// # Errors
/// If the file can't be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    uncache(&file);
    Ok(bytes)
}

fn uncache(file: &File) {
    if let Err(error) = rustix::fs::fadvise(file, 0, None, Advice::DontNeed) {
        tracing::debug!(%error, "the page cache keeps a segment");
    }
}

impl Segment {
    /// Makes a segment with room for `size` bytes.
    ///
    /// # Errors
    /// If the file system refuses; nothing is left behind.
    pub fn create(disk: &Disk, folder: &Path, stream: Stream, base: u64, size: u64) -> Result<Self, JournalError> {
        let path = folder.join(format!("{stream}-{base:020}{SUFFIX}"));
        let file = disk.create(&path)?;
        match disk.make(Change::Reserve(&file, &path, size)) {
            Ok(()) => {}
            // Without preallocation a full disk is met by a write instead, which is dealt with alike.
            Err(error) if error.is_unsupported() => {}
            Err(error) => {
                drop(file);
                disk.make(Change::Remove(&path))?;
                return Err(error);
            }
        }
        Ok(Self {
            path,
            extent: Extent { start: base, end: base },
            size,
            used: 0,
            times: (0, 0),
            aged: Duration::ZERO,
            touched: Duration::ZERO,
            damaged: false,
            file: Some(Arc::new(file)),
            dirty: true,
            doubtful: false,
        })
    }

    /// Reads a segment that an earlier process left. It is never written to again.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn open(path: PathBuf, base: u64, ids: usize) -> Result<(Self, Contents), JournalError> {
        let bytes = read(&path).map_err(|e| JournalError::io("read", &path, e))?;
        let mut contents = Contents::default();
        let mut segment = Self {
            path,
            extent: Extent { start: base, end: base },
            size: bytes.len() as u64,
            used: 0,
            times: (0, 0),
            aged: Duration::ZERO,
            touched: Duration::ZERO,
            damaged: false,
            file: None,
            dirty: false,
            doubtful: false,
        };
        for found in Scan::new(&bytes, base) {
            match found {
                Found::Record(record, end) => {
                    segment.dated(record.at_ms, contents.records == 0);
                    segment.extent.end = record.seq.saturating_add(1);
                    match contents.runs.last_mut() {
                        Some(run) if run.end == record.seq => run.end = segment.extent.end,
                        _ => contents.runs.push(Extent { start: record.seq, end: segment.extent.end }),
                    }
                    segment.used = end as u64;
                    contents.records += 1;
                    contents.last_ids.push(record.id);
                    if contents.last_ids.len() > 2 * ids {
                        contents.last_ids.drain(..ids);
                    }
                }
                Found::Damage => contents.damages += 1,
                Found::Torn => {
                    contents.torn = true;
                    segment.used = segment.size;
                }
            }
        }
        segment.damaged = contents.damages > 0 || contents.torn;
        let surplus = contents.last_ids.len().saturating_sub(ids);
        contents.last_ids.drain(..surplus);
        Ok((segment, contents))
    }

    /// Whether a record of `len` bytes of payload fits.
    pub fn fits(&self, len: usize) -> bool {
        self.file.is_some() && self.used + Record::size(len) as u64 <= self.size
    }

    /// Appends encoded bytes of the record numbered [`Extent::end`]. After an error the segment is as before.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&mut self, disk: &Disk, bytes: &[u8], at_ms: u64, clock: &Clock) -> Result<(), JournalError> {
        if let Some(file) = &self.file {
            disk.make(Change::Write(file, &self.path, self.used, bytes))?;
        }
        self.dated(at_ms, self.extent.start == self.extent.end);
        self.touched = clock.elapsed();
        self.used += bytes.len() as u64;
        self.extent.end += 1;
        self.dirty = true;
        Ok(())
    }

    /// Gives back the room it did not use; it is written no more. It stays open until it is synced.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn seal(&mut self, disk: &Disk) -> Result<(), JournalError> {
        if self.size > self.used {
            disk.make(Change::SetLength(&disk::open(&self.path)?, &self.path, self.used))?;
            self.size = self.used;
        }
        Ok(())
    }

    fn dated(&mut self, at_ms: u64, first: bool) {
        self.times = if first { (at_ms, at_ms) } else { (self.times.0.min(at_ms), self.times.1.max(at_ms)) };
    }

    /// How long ago its last record was appended. The date counts for what an earlier process left, and only once: a
    /// jump afterwards changes no age.
    pub fn age(&self, clock: &Clock) -> Duration {
        self.aged + clock.elapsed().saturating_sub(self.touched)
    }

    /// An earlier process may have left it unsynced: it is opened for the next sync.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn doubt(&mut self) -> Result<(), JournalError> {
        self.file = Some(Arc::new(disk::open(&self.path)?));
        self.dirty = true;
        Ok(())
    }

    /// It is whole and on the disk: no open file and no memory is spent on it any more.
    pub fn release(&mut self) {
        if let Some(file) = self.file.take() {
            uncache(&file);
        }
    }
}
