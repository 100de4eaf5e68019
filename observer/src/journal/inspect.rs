//! Reading a journal's folder without opening it: for `journal show` and `journal verify`, also beside a running observer.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    CursorName, JournalError, Stream,
    cursor::{Cursor, Extent, State},
    evict::ASIDE,
    record::{Found, Record, Scan},
    segment::{self, Segment},
    slots,
};

/// How often a journal is looked at that changes meanwhile.
const TRIES: u32 = 5;

/// A journal as it lies on the disk.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Name of the journal; absent when neither slot of the cursors is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// Readers.
    pub cursors: BTreeMap<CursorName, Cursor>,
    /// Segments, mildest stream first.
    pub segments: Vec<SegmentReport>,
    /// Undamaged records.
    pub records: u64,
    /// Record numbers that some reader still waits for, and no undamaged record has.
    pub missing: u64,
    /// Stretches of damage.
    pub damages: u64,
    /// Writes that were cut short.
    pub torn: u64,
    /// Damaged segments that were set aside.
    pub set_aside: u64,
    /// Nothing was written to it yet.
    #[serde(skip)]
    fresh: bool,
}

/// One segment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport {
    /// Severity and lane.
    pub stream: Stream,
    /// First record's number.
    pub start: u64,
    /// Behind the last's.
    pub end: u64,
    /// Undamaged records.
    pub records: u64,
    /// Bytes of the disk.
    pub size: u64,
    /// Stretches of damage.
    pub damages: u64,
    /// It ends in a write that was cut short.
    pub torn: bool,
}

impl Inspection {
    /// Whether every record that was written can be read.
    pub fn sound(&self) -> bool {
        (self.journal.is_some() || self.fresh) && self.damages == 0 && self.torn == 0 && self.missing == 0
    }
}

/// Why records were not printed.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// They could not be written.
    #[error("records can't be printed: {0}")]
    Write(#[from] io::Error),
}

impl ShowError {
    /// The closed class of this error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Journal(error) => error.category(),
            Self::Write(_) => "write",
        }
    }
}

/// Prints every undamaged record of `folder`, a line of JSON each, mildest stream first and each in order; returns how
/// many stretches of damage were passed over.
///
/// # Errors
/// If the journal can't be read, or nobody takes the lines.
pub fn show(folder: &Path, mut out: impl Write) -> Result<u64, ShowError> {
    let mut damages = 0;
    walk(folder, |found| {
        match found.and_then(|(stream, record)| shown(stream, &record)) {
            Some(line) => out.write_all(line.as_bytes())?,
            None => damages += 1,
        }
        Ok::<(), ShowError>(())
    })?;
    out.flush()?;
    Ok(damages)
}

/// Gives `visit` the payload of every undamaged record of `folder`, and nothing for each stretch of damage.
///
/// # Errors
/// If the journal can't be read, and what `visit` says.
pub fn payloads<E: From<JournalError>>(
    folder: &Path,
    mut visit: impl FnMut(Option<&str>) -> Result<(), E>,
) -> Result<(), E> {
    walk(folder, |found| visit(found.map(|(_, record)| record.payload)))
}

fn walk<E: From<JournalError>>(
    folder: &Path,
    mut visit: impl FnMut(Option<(Stream, Record<'_>)>) -> Result<(), E>,
) -> Result<(), E> {
    for (stream, base, path) in segments(folder)? {
        let bytes = segment::read(&path).map_err(|e| JournalError::io("read", &path, e))?;
        for found in Scan::new(&bytes, base) {
            match found {
                Found::Record(record, _) => visit(Some((stream, record)))?,
                Found::Damage | Found::Torn => visit(None)?,
            }
        }
    }
    Ok(())
}

/// A record's line; the event stands in it byte by byte as it will be sent.
fn shown(stream: Stream, record: &Record<'_>) -> Option<String> {
    let _: serde::de::IgnoredAny = serde_json::from_str(record.payload).ok()?;
    let at = jiff::Timestamp::from_millisecond(i64::try_from(record.at_ms).ok()?).ok()?;
    let (stream, id) = (serde_json::to_string(&stream).ok()?, hex::encode(record.id));
    let (seq, event) = (record.seq, record.payload);
    Some(format!("{{\"stream\":{stream},\"seq\":{seq},\"appendedAt\":\"{at}\",\"id\":\"{id}\",\"event\":{event}}}\n"))
}

/// Segments by stream and first number.
fn segments(folder: &Path) -> Result<Vec<(Stream, u64, PathBuf)>, JournalError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| JournalError::io("list", folder, e))? {
        let entry = entry.map_err(|e| JournalError::io("list", folder, e))?;
        if let Some((stream, base)) = entry.file_name().to_str().and_then(segment::parse_name) {
            segments.push((stream, base, entry.path()));
        }
    }
    segments.sort_by_key(|(stream, base, _)| (*stream, *base));
    Ok(segments)
}

/// Reads what lies in `folder`.
///
/// # Errors
/// If it can't be read, or is no journal.
pub fn inspect(folder: &Path) -> Result<Inspection, JournalError> {
    let mut tries = 1..=TRIES;
    loop {
        let last = tries.next().is_none_or(|turn| turn == TRIES);
        let before = Stored::read(folder)?;
        match before.look(folder) {
            // A running observer removed it meanwhile.
            Err(error) if error.is_not_found() && !last => {}
            Ok(_) if !last && Stored::read(folder)?.generation != before.generation => {}
            looked => return looked,
        }
    }
}

/// The state beside the records.
struct Stored {
    generation: u64,
    state: Option<State>,
    fresh: bool,
}

impl Stored {
    fn read(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(slots::FILE);
        let bytes = fs::read(&path).map_err(|e| JournalError::io("read", &path, e))?;
        let newest = slots::newest(&bytes);
        Ok(Self {
            generation: newest.as_ref().map_or(0, |newest| newest.0),
            state: newest.map(|(_, _, state)| state),
            fresh: bytes.iter().all(|&byte| byte == 0),
        })
    }

    fn look(&self, folder: &Path) -> Result<Inspection, JournalError> {
        let aside = fs::read_dir(folder.join(ASIDE)).map_or(0, |entries| entries.count() as u64);
        let mut inspection = Inspection {
            journal: self.state.as_ref().map(|state| state.journal.clone()),
            cursors: self.state.as_ref().map(|state| state.cursors.clone()).unwrap_or_default(),
            segments: Vec::new(),
            records: 0,
            missing: 0,
            damages: 0,
            torn: 0,
            set_aside: aside,
            fresh: self.fresh,
        };
        let mut streams: BTreeMap<Stream, Vec<Extent>> = BTreeMap::new();
        for &stream in self.state.iter().flat_map(|state| state.synced.keys()) {
            streams.entry(stream).or_default();
        }
        for (stream, base, path) in segments(folder)? {
            let (segment, contents) = Segment::open(path, base, 0)?;
            let Extent { start, end } = segment.extent;
            inspection.records += contents.records;
            inspection.damages += contents.damages;
            inspection.torn += u64::from(contents.torn);
            let (records, damages, torn) = (contents.records, contents.damages, contents.torn);
            inspection.segments.push(SegmentReport { stream, start, end, records, size: segment.size, damages, torn });
            streams.entry(stream).or_default().extend(contents.runs);
        }
        inspection.missing = streams.into_iter().map(|(stream, runs)| self.missing(stream, runs)).sum();
        Ok(inspection)
    }

    /// Numbers from the first that some reader is not done with to the last that was ever synced or seen, which no
    /// record has and no eviction has counted.
    fn missing(&self, stream: Stream, mut known: Vec<Extent>) -> u64 {
        let seen = known.iter().map(|run| run.end).max().unwrap_or(0);
        let (mut at, end) = match &self.state {
            Some(state) => {
                known.extend(state.holes.get(&stream).into_iter().flatten());
                (state.done_by_all(stream), seen.max(state.synced.get(&stream).copied().unwrap_or(0)))
            }
            None => (known.iter().map(|run| run.start).min().unwrap_or(0), seen),
        };
        known.sort_by_key(|run| run.start);
        let mut missing = 0;
        for run in known {
            missing += run.start.min(end).saturating_sub(at);
            at = at.max(run.end);
        }
        missing + end.saturating_sub(at)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use zastava_crds::wire::event::Severity;

    use super::*;
    use crate::{
        fixtures::{self, drift},
        pipeline::{Lane, Store as _},
        sink::{JournalSink, SinkMetrics},
    };

    #[test]
    fn every_record_is_a_line_and_damage_is_passed_over_and_told() {
        let folder = TempDir::new().unwrap();
        let sink = JournalSink::new(fixtures::journal(folder.path()), SinkMetrics::default());
        for n in 0..3 {
            sink.append(Lane::Urgent, &drift(n, Severity::High)).unwrap();
        }
        sink.append(Lane::Routine, &drift(3, Severity::Low)).unwrap();
        let lines = || {
            let mut out = Vec::new();
            let damages = show(folder.path(), &mut out).unwrap();
            let lines = String::from_utf8(out).unwrap();
            let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            (lines.collect::<Vec<_>>(), damages)
        };
        let (whole, damages) = lines();
        let ids: Vec<&str> = whole.iter().map(|line| line["event"]["eventId"].as_str().unwrap()).collect();
        assert_eq!((ids.len(), damages), (4, 0));
        assert_eq!(ids[0], drift(3, Severity::Low).event_id.0, "the mildest first");
        assert!(whole.iter().all(|line| line["id"] == line["event"]["eventId"]), "{whole:?}");
        assert_eq!(
            [1, 2, 3].map(|at| whole[at]["seq"].as_u64().unwrap() - whole[1]["seq"].as_u64().unwrap()),
            [0, 1, 2]
        );
        assert!(inspect(folder.path()).unwrap().sound());

        let urgent = segments(folder.path()).unwrap().pop().unwrap().2;
        let mut bytes = fs::read(&urgent).unwrap();
        bytes[100] ^= 1;
        fs::write(&urgent, &bytes).unwrap();
        let (rest, damages) = lines();
        assert_eq!((rest.len(), damages), (3, 1));
        assert!(!inspect(folder.path()).unwrap().sound());
    }
}
