//! Whether what was in the rings at one moment is judged at a later one. What is throttled, or waits for the journal, is.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

use super::Lane;

/// One asks, the threads of the rings answer.
#[derive(Debug, Default)]
pub struct Progress {
    questions: AtomicU64,
    /// The last one that each ring has answered.
    routine: AtomicU64,
    urgent: AtomicU64,
}

impl Progress {
    /// Asks about all that is in the rings by now; see [`Self::has_passed`].
    pub fn ask(&self) -> u64 {
        self.questions.fetch_add(1, AcqRel) + 1
    }

    /// Whether all that this question was about is judged.
    pub fn has_passed(&self, question: u64) -> bool {
        [&self.routine, &self.urgent].iter().all(|answered| answered.load(Acquire) >= question)
    }

    /// The last question, 0 before there is one.
    pub fn question(&self) -> u64 {
        self.questions.load(Acquire)
    }

    /// One ring's answer.
    pub fn answer(&self, lane: Lane, question: u64) {
        match lane {
            Lane::Routine => &self.routine,
            Lane::Urgent => &self.urgent,
        }
        .store(question, Release);
    }
}
