//! Reading a journal's folder without opening it: for `journal show` and `journal verify`, also beside a running observer.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

use super::{
    CursorName, JournalError, Stream,
    cursor::Cursor,
    evict::ASIDE,
    segment::{self, Segment},
    slots,
};

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
    /// Record numbers that no undamaged record has, within segments.
    pub missing: u64,
    /// Stretches of damage.
    pub damages: u64,
    /// Writes that were cut short.
    pub torn: u64,
    /// Damaged segments that were set aside.
    pub set_aside: u64,
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
        self.journal.is_some() && self.damages == 0 && self.torn == 0 && self.missing == 0
    }
}

/// Reads what lies in `folder`.
///
/// # Errors
/// If it can't be read, or is no journal.
pub fn inspect(folder: &Path) -> Result<Inspection, JournalError> {
    let path = folder.join(slots::FILE);
    let bytes = fs::read(&path).map_err(|e| JournalError::io("read", &path, e))?;
    let state = slots::newest(&bytes).map(|(_, _, state)| state);
    let aside = fs::read_dir(folder.join(ASIDE)).map_or(0, |entries| entries.count() as u64);
    let mut inspection = Inspection {
        journal: state.as_ref().map(|state| state.journal.clone()),
        cursors: state.map(|state| state.cursors).unwrap_or_default(),
        segments: Vec::new(),
        records: 0,
        missing: 0,
        damages: 0,
        torn: 0,
        set_aside: aside,
    };
    for entry in fs::read_dir(folder).map_err(|e| JournalError::io("list", folder, e))? {
        let entry = entry.map_err(|e| JournalError::io("list", folder, e))?;
        let name = entry.file_name();
        let Some((stream, base)) = name.to_str().and_then(segment::parse_name) else { continue };
        let (segment, contents) = Segment::open(entry.path(), base, 0)?;
        let (start, end) = (segment.extent.start, segment.extent.end);
        inspection.records += contents.records;
        inspection.missing += (end - start).saturating_sub(contents.records);
        inspection.damages += contents.damages;
        inspection.torn += u64::from(contents.torn);
        let (records, damages, torn) = (contents.records, contents.damages, contents.torn);
        inspection.segments.push(SegmentReport { stream, start, end, records, size: segment.size, damages, torn });
    }
    inspection.segments.sort_by_key(|segment| (segment.stream, segment.start));
    Ok(inspection)
}
