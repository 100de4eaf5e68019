//! Waiting longer after each failure in a row: kube's controllers have no back-off of an object's own.

use std::{collections::HashMap, hash::Hash, sync::Mutex, time::Duration};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// Back-off of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure: 1 s, doubled each time, at most 60 s.
    pub fn wait(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Back-off of many things, each by itself; what went well takes no room.
#[derive(Debug)]
pub struct Backoffs<K>(Mutex<HashMap<K, Backoff>>);

impl<K> Default for Backoffs<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Backoffs<K> {
    /// How long to wait after one more failure of `key`.
    pub fn wait(&self, key: K) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.entry(key).or_default().wait()
    }

    /// It went well, or is gone.
    pub fn reset(&self, key: &K) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_waits_longer_by_itself_and_at_most_a_minute() {
        let all = Backoffs::default();
        let waits: Vec<_> = (0..9).map(|_| all.wait("a").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(all.wait("b").as_secs(), 1);
        all.reset(&"a");
        assert_eq!(all.wait("a").as_secs(), 1);
    }
}
