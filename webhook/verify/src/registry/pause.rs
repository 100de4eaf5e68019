//! Registries that asked not to be asked for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, header::RETRY_AFTER};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

/// Hosts remembered at most; pods choose whom we ask.
const MAX_HOSTS: usize = 1_000;

/// Hosts that asked for a pause, until when.
#[derive(Default)]
pub(super) struct Pauses(Mutex<HashMap<String, Instant>>);

impl Pauses {
    pub(super) fn left(&self, host: &str) -> Option<Duration> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.get(host).and_then(|until| until.checked_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    pub(super) fn pause(&self, host: &str, pause: Duration) {
        let now = Instant::now();
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.retain(|_, until| *until > now);
        if pauses.len() < MAX_HOSTS || pauses.contains_key(host) {
            pauses.insert(host.to_owned(), now + pause);
        }
    }
}

/// What `Retry-After` asks for: seconds, or a date (<https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>).
pub(super) fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTimeParser::new().parse_timestamp(text).ok()?;
    // A date that has passed asks for no pause at all.
    Some(Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Duration> {
        asked(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]))
    }

    #[test]
    fn seconds_and_dates_are_read_and_nothing_else() {
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let soon = Timestamp::now() + Duration::from_secs(20);
        let text = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let pause = read(&text).unwrap();
        assert!((18..=20).contains(&pause.as_secs()), "{text}: {pause:?}");
        for nothing in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn hosts_that_pods_choose_do_not_fill_the_memory() {
        let pauses = Pauses::default();
        for host in 0..MAX_HOSTS + 10 {
            pauses.pause(&host.to_string(), Duration::from_mins(1));
        }
        assert!(pauses.left("0").is_some() && pauses.left(&(MAX_HOSTS + 1).to_string()).is_none());
    }
}
