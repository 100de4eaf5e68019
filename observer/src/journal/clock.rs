//! The two clocks of the journal: records are dated by the wall's, which may jump; ages are measured by one that only
//! runs on.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Where the journal takes the time from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's; the instant is when it was asked for first.
    System(Instant),
    /// A test's.
    #[cfg(test)]
    Set(std::sync::Arc<std::sync::Mutex<(Timestamp, Duration)>>),
}

impl Default for Clock {
    fn default() -> Self {
        Self::System(Instant::now())
    }
}

impl Clock {
    /// The date, as far as the node knows it.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System(_) => Timestamp::now(),
            #[cfg(test)]
            Self::Set(set) => set.lock().map_or(Timestamp::UNIX_EPOCH, |set| set.0),
        }
    }

    /// The date in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now().as_millisecond()).unwrap_or(0)
    }

    /// Time since this clock was made: no jump of the date changes it.
    pub fn elapsed(&self) -> Duration {
        match self {
            Self::System(begun) => begun.elapsed(),
            #[cfg(test)]
            Self::Set(set) => set.lock().map_or(Duration::ZERO, |set| set.1),
        }
    }
}
