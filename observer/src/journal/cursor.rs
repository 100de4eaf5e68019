//! What the journal knows beside its records: who has read how far, which batch is on its way, and what was lost.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zastava_crds::wire::event::LossReason;

use super::stream::Stream;

/// A reader of the journal. The format has room for more.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::EnumIter,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "snake_case")]
pub enum CursorName {
    /// Reports to the intake.
    Report,
}

impl fmt::Display for CursorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(<&str>::from(self))
    }
}

/// Half-open range of record numbers in one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First.
    pub start: u64,
    /// Behind the last.
    pub end: u64,
}

impl Extent {
    /// How many numbers lie in both.
    pub fn overlap(&self, other: &Self) -> u64 {
        self.end.min(other.end).saturating_sub(self.start.max(other.start))
    }
}

/// Events lost for one reason over a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossWindow {
    /// How many.
    pub count: u64,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl LossWindow {
    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.from = self.from.min(other.from);
        self.until = self.until.max(other.until);
    }
}

/// Losses by reason.
pub type Losses = BTreeMap<LossKey, LossWindow>;

/// [`LossReason`] as a sorted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossKey(pub LossReason);

impl Ord for LossKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0 as u8).cmp(&(other.0 as u8))
    }
}

impl PartialOrd for LossKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A batch that may have been sent and has no receipt: it is sent again as it was, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// Its number.
    pub seq: u64,
    /// Its records.
    pub extents: BTreeMap<Stream, Extent>,
    /// The losses it tells.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub losses: Losses,
    /// Boot of the node when it was formed, for the losses' events.
    pub boot_id: String,
    /// Its records that could not be read and are counted as lost.
    #[serde(default)]
    pub missing: u64,
}

/// How far one reader has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cursor {
    /// Number of the next batch, or of the one in flight.
    pub seq: u64,
    /// First record that is not done with, by stream.
    #[serde(default)]
    pub done: BTreeMap<Stream, u64>,
    /// On its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
    /// Not told yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub losses: Losses,
    /// Records acknowledged since the journal was made.
    #[serde(default)]
    pub acknowledged: u64,
    /// Records that were evicted before this reader was done with them.
    #[serde(default)]
    pub evicted: u64,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { seq: 1, done: BTreeMap::new(), in_flight: None, losses: Losses::new(), acknowledged: 0, evicted: 0 }
    }
}

impl Cursor {
    /// First record of `stream` that is not done with.
    pub fn done(&self, stream: Stream) -> u64 {
        self.done.get(&stream).copied().unwrap_or(0)
    }

    /// Adds to the losses that are not told yet.
    pub fn lose(&mut self, reason: LossReason, window: LossWindow) {
        if window.count > 0 {
            self.losses.entry(LossKey(reason)).and_modify(|known| known.merge(&window)).or_insert(window);
        }
    }

    /// Whether a batch on its way holds records of `extent`.
    pub fn holds(&self, stream: Stream, extent: &Extent) -> bool {
        let held = self.in_flight.as_ref().and_then(|batch| batch.extents.get(&stream));
        held.is_some_and(|held| held.overlap(extent) > 0)
    }
}

/// The contents of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Names this journal: numbers begin again only under another name.
    pub journal: String,
    /// First number that no synced record has, by stream: fewer found at start means damage, not a write cut short.
    #[serde(default)]
    pub synced: BTreeMap<Stream, u64>,
    /// Stretches that were evicted out of turn and already counted, because a batch on its way held what lies before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holes: BTreeMap<Stream, Vec<Extent>>,
    /// The readers.
    pub cursors: BTreeMap<CursorName, Cursor>,
}

impl State {
    /// First record of `stream` that some reader is not done with.
    pub fn done_by_all(&self, stream: Stream) -> u64 {
        self.cursors.values().map(|cursor| cursor.done(stream)).min().unwrap_or(0)
    }

    /// How many numbers of `extent` are in holes.
    pub fn holes_in(&self, stream: Stream, extent: &Extent) -> u64 {
        self.holes.get(&stream).into_iter().flatten().map(|hole| hole.overlap(extent)).sum()
    }
}

/// A state with its place in the order of states.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Rises with each snapshot of a process.
    pub version: u64,
    /// The state.
    pub state: State,
}
