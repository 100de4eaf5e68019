//! One lock a key, for as long as somebody uses it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::finding::plan::Plan;

/// Keys that are kept at most while nobody uses them.
const MAX_IDLE: usize = 10_000;

/// What is remembered of a reporter between its batches.
#[derive(Debug, Default)]
pub(super) struct ReporterState {
    /// Highest sequence seen.
    pub(super) latest: u64,
    /// Its plan, with the hash of what it was made from.
    pub(super) plan: Option<([u8; 32], Arc<Plan>)>,
}

/// One lock a key.
#[derive(Debug)]
pub(super) struct Keyed<T>(Mutex<HashMap<String, Arc<tokio::sync::Mutex<T>>>>);

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> Keyed<T> {
    /// The lock of this key.
    pub(super) fn get(&self, key: &str) -> Arc<tokio::sync::Mutex<T>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= MAX_IDLE {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        locks.entry(key.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_locks_are_bounded_and_used_ones_stay() {
        let locks = Keyed::<()>::default();
        let used = locks.get("used");
        for n in 0..=MAX_IDLE {
            locks.get(&n.to_string());
        }
        assert!(locks.0.lock().unwrap().len() <= MAX_IDLE);
        assert!(Arc::ptr_eq(&used, &locks.get("used")));
    }
}
