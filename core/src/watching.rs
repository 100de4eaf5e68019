//! Watches of the Kubernetes API: how soon one that broke is tried again.
//!
//! The usual pauses grow to half a minute and double with jitter. After an API server's outage a replica would then lead,
//! or judge pods, for up to a minute by policies as they were before it.

use std::time::Duration;

use backon::ExponentialBuilder;
use kube::runtime::{utils::ResetTimerBackoff, watcher::ExponentialBackoff};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(4);
/// A watch that was well for so long begins with the first pause again.
const WELL: Duration = Duration::from_mins(1);

/// Pauses of one watch. Few programs of a cluster watch, so that coming back soon costs the API server little.
pub fn pauses() -> ResetTimerBackoff<ExponentialBackoff> {
    let builder = ExponentialBuilder::default().with_min_delay(FIRST).with_max_delay(LONGEST).without_max_times();
    ResetTimerBackoff::new(builder.with_jitter().into(), WELL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_short_for_ever() {
        let pauses: Vec<_> = pauses().take(200).collect();
        assert_eq!(pauses.len(), 200);
        assert!(pauses[0] <= 2 * FIRST && pauses.iter().all(|pause| *pause <= 2 * LONGEST), "{pauses:?}");
        assert!(pauses[199] >= LONGEST, "{pauses:?}");
    }
}
