//! When an answer must be given: ahead of the API server's patience, so that it gets a verdict and not a broken call.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

/// What a webhook is given by default (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>).
const DEFAULT: Duration = Duration::from_secs(10);
/// The most that the API server can be configured to wait.
const MAX: Duration = Duration::from_secs(30);

/// The query that the API server adds to the URL of a webhook.
#[derive(Debug, Default, Deserialize)]
pub struct Patience {
    /// As Go writes a duration, such as `10s`.
    timeout: Option<String>,
}

impl Patience {
    /// 80 % of what the API server waits, from `received` on.
    pub fn deadline(&self, received: Instant) -> Instant {
        let timeout = self.timeout.as_deref().and_then(|text| text.parse::<jiff::SignedDuration>().ok());
        let timeout = timeout.and_then(|timeout| Duration::try_from(timeout).ok()).unwrap_or(DEFAULT).min(MAX);
        received + timeout * 4 / 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_due_at_four_fifths_of_what_the_caller_waits() {
        let received = Instant::now();
        let due = |text: Option<&str>| Patience { timeout: text.map(str::to_owned) }.deadline(received) - received;
        assert_eq!(due(Some("10s")), Duration::from_secs(8));
        assert_eq!(due(Some("500ms")), Duration::from_millis(400));
        assert_eq!(due(Some("1m0s")), Duration::from_secs(24), "no more than the API server's own bound");
        assert_eq!(due(None), Duration::from_secs(8));
        assert_eq!(due(Some("soon")), Duration::from_secs(8));
    }
}
