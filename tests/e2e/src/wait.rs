//! Waiting for what should come true: looked at again and again, until a deadline that tells what was seen last.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

/// How often the cluster is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// What a look saw.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was waited for.
    There(T),
    /// Something else, in words.
    NotYet(String),
}

/// Looks until the look sees it. A look that fails is a look that saw the failure.
pub async fn until<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Result<Seen<T>>) -> Result<T> {
    let end = Instant::now() + within;
    let mut last = String::from("nothing: the look itself did not end");
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // A look that is there at once would win against a timeout of nothing, for ever.
        if left.is_zero() {
            return Err(Error::Deadline { what: what.to_owned(), after: within, last });
        }
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(Seen::There(found))) => return Ok(found),
            Ok(Ok(Seen::NotYet(state))) => last = state,
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => return Err(Error::Deadline { what: what.to_owned(), after: within, last }),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_tells_the_last_state() {
        let mut looks = 0;
        let error = until::<()>("the sun is up", Duration::from_secs(1), async || {
            looks += 1;
            Ok(Seen::NotYet(format!("dark, look {}", looks.min(3))))
        })
        .await
        .unwrap_err();
        assert!(error.to_string().ends_with("last state seen: dark, look 3"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_looked_again() {
        let mut looks = 0;
        let found = until("it answers", Duration::from_secs(1), async || {
            looks += 1;
            if looks < 3 { Err(Error::Invalid("refused".into())) } else { Ok(Seen::There(looks)) }
        })
        .await
        .unwrap();
        assert_eq!(found, 3);
    }
}
