//! Uses of files, counted for each image, file and content. The order in which events come changes nothing.

use std::{collections::BTreeMap, io::Write};

use jiff::Timestamp;
use zastava_crds::{
    canonical,
    digest::{ImageDigest, Sha256Digest},
    wire::{
        event::{EventDetail, Killed, RuntimeEvent},
        fact::{FACT_SCHEMA, MAX_HITS, RuntimeFact, Usage},
    },
};

use super::ReplayError;

/// Facts that are kept at most.
pub const MAX_FACTS: usize = 100_000;

/// What one fact is about. Neither device nor inode: they are a node's, and say nothing elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    image: ImageDigest,
    path: String,
    sha256: Option<Sha256Digest>,
    usage: Usage,
}

#[derive(Debug)]
struct Uses {
    count: u64,
    /// When and where last; of two at the same time the greater id, so that one always wins.
    last: (Timestamp, String),
}

/// What was recorded and is no fact of the aggregate: the honest end of its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// Records that are damaged, or events that this version does not know.
    pub unreadable: u64,
    /// Uses in containers whose image's digest nobody knew.
    pub without_image: u64,
    /// Uses of files beyond the bound.
    pub truncated: u64,
}

impl Untold {
    /// Whether everything was told.
    pub const fn is_empty(&self) -> bool {
        self.unreadable == 0 && self.without_image == 0 && self.truncated == 0
    }
}

/// The facts of the events it was given.
#[derive(Debug)]
pub struct Aggregate {
    facts: BTreeMap<Key, Uses>,
    bound: usize,
    untold: Untold,
}

impl Aggregate {
    /// None yet, and `bound` at most.
    pub const fn new(bound: usize) -> Self {
        Self { facts: BTreeMap::new(), bound, untold: Untold { unreadable: 0, without_image: 0, truncated: 0 } }
    }

    /// Counts what `event` says was used; each event once.
    pub fn add(&mut self, event: &RuntimeEvent) {
        let usage = match &event.detail {
            // Not one instruction of it ran.
            EventDetail::Drift { killed: Killed::Before, .. } | EventDetail::Library { killed: Killed::Before, .. } => {
                return;
            }
            EventDetail::Drift { .. } | EventDetail::DeniedProcess { .. } => Usage::Executed,
            EventDetail::Library { .. } => Usage::Loaded,
            EventDetail::Throttling { .. } | EventDetail::Lost { .. } => return,
        };
        let Some(file) = event.detail.file() else { return };
        let combined = event.combined.as_ref();
        let count = combined.map_or(1, |combined| combined.count.max(1));
        let Some(image) = event.container.digests.first() else {
            self.untold.without_image = self.untold.without_image.saturating_add(count);
            return;
        };
        let at = combined.map_or(event.observed_at, |combined| combined.until.max(event.observed_at));
        let last = (at, event.container.container_id.clone());
        let key = Key { image: image.clone(), path: file.path.clone(), sha256: file.sha256.clone(), usage };
        let uses = self.facts.entry(key).or_insert_with(|| Uses { count: 0, last: last.clone() });
        uses.count = uses.count.saturating_add(count);
        if uses.last < last {
            uses.last = last;
        }
        // The last in order goes, not the newest: those that stay are the same in whatever order events come.
        if self.facts.len() > self.bound
            && let Some((_, gone)) = self.facts.pop_last()
        {
            self.untold.truncated = self.untold.truncated.saturating_add(gone.count);
        }
    }

    /// Counts a record that can't be read.
    pub const fn add_unreadable(&mut self) {
        self.untold.unreadable = self.untold.unreadable.saturating_add(1);
    }

    /// Writes the facts, a line of canonical JSON each, by image, path, content and usage; tells what is not among them.
    ///
    /// # Errors
    /// If nobody takes the lines.
    pub fn write(self, mut out: impl Write) -> Result<Untold, ReplayError> {
        for (key, uses) in self.facts {
            let fact = RuntimeFact {
                schema: FACT_SCHEMA.to_owned(),
                image_digest: key.image,
                path: key.path,
                sha256: key.sha256,
                usage: key.usage,
                hit_count: uses.count.min(MAX_HITS),
                container_id: uses.last.1,
                observed_at: uses.last.0,
            };
            let mut line = canonical::to_vec(&fact)?;
            line.push(b'\n');
            out.write_all(&line)?;
        }
        out.flush()?;
        Ok(self.untold)
    }
}
