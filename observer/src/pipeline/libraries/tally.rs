//! What became of each mapping: told, or why not.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use strum::{EnumCount as _, IntoEnumIterator as _};

/// What became of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::EnumIter, strum::EnumCount)]
#[strum(serialize_all = "snake_case")]
pub enum Fate {
    /// In the journal.
    Stored,
    /// Content of the image, the program itself, or allowed.
    Filtered,
    /// No container's, or one whose libraries nobody asks for.
    Foreign,
    /// Its process or its file was gone before it could be looked at.
    Unresolved,
    /// Over the budget: not looked at.
    OverBudget,
    /// The kernel had no room for it.
    BufferFull,
    /// The journal refused it.
    JournalWrite,
}

/// Counts since the agent started.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; Fate::COUNT]);

impl Tally {
    pub fn add(&self, what: Fate, count: u64) {
        self.0[what as usize].fetch_add(count, Relaxed);
    }

    /// Each count by its name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        Fate::iter().map(|what| (what.into(), self.0[what as usize].load(Relaxed))).collect()
    }

    #[cfg(test)]
    pub(crate) fn count(&self, what: Fate) -> u64 {
        self.0[what as usize].load(Relaxed)
    }
}
