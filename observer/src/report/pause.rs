//! Pauses between attempts: doubling, with jitter, so that a thousand nodes don't come back in one moment.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// The next pause.
#[derive(Debug)]
pub struct Pause {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Pause {
    /// From the first pause to the longest.
    pub fn new((first, most): (Duration, Duration)) -> Self {
        Self { first, most, next: first }
    }

    /// Nothing has been waited for since the start or the last success.
    pub fn is_first(&self) -> bool {
        self.next == self.first
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits, at least for `asked`, and at most until `token` is cancelled.
    pub async fn wait(&mut self, asked: Option<Duration>, token: &CancellationToken) {
        let pause = jittered(self.next).max(asked.unwrap_or_default());
        self.next = (self.next * 2).min(self.most);
        let _ = tokio::time::timeout(pause, token.cancelled()).await;
    }
}

/// Between half of `pause` and all of it.
fn jittered(pause: Duration) -> Duration {
    // The hasher's keys come from the kernel's randomness.
    let random = u32::try_from(RandomState::new().build_hasher().finish() >> 40).unwrap_or(0);
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(1u32 << 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let pause = Duration::from_secs(8);
        for _ in 0..1000 {
            let jittered = jittered(pause);
            assert!(jittered >= pause / 2 && jittered <= pause, "{jittered:?}");
        }
    }
}
