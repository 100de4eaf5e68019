//! When the backend is left alone: while it asks for it, and after several failures in a row.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Cause, Unavailable};

/// Failures in a row that begin a pause.
const FAILURES: u32 = 3;
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Whether the backend may be asked.
#[derive(Debug, Default)]
pub struct Pause(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
    /// After a pause one question goes alone, and the others wait for what becomes of it.
    trial: bool,
    last: Option<Unavailable>,
}

/// A question under way; what becomes of it is told, or it counts for nothing.
#[derive(Debug)]
pub struct Turn<'a>(&'a Pause);

impl Pause {
    /// A turn, or why there is none now.
    pub fn turn(&self) -> Result<Turn<'_>, Unavailable> {
        let mut state = self.lock();
        let now = Instant::now();
        let waits = state.until.is_some_and(|until| now < until);
        if waits || state.trial {
            let left = state.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            let why = state.last.as_ref().map_or("", |last| last.detail.as_str());
            let detail = format!("it is left alone for a moment after: {why}");
            // Who answers for another tenant is not taken for one that is down, in the pause after it either.
            let tenant = state.last.as_ref().is_some_and(|last| last.cause == Cause::Tenant);
            let cause = if tenant { Cause::Tenant } else { Cause::Paused };
            return Err(Unavailable { after: Some(left), ..Unavailable::new(cause, detail) });
        }
        state.trial = state.until.is_some();
        Ok(Turn(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// It answered.
    pub fn answered(self) {
        *self.0.lock() = State::default();
    }

    /// It did not.
    pub fn failed(self, why: &Unavailable) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        state.last = Some(why.clone());
        let own = (state.failures >= FAILURES).then(|| FIRST * 2_u32.pow((state.failures - FAILURES).min(5)));
        if let Some(pause) = own.map(|own| own.min(LONGEST)).max(why.after) {
            state.until = Some(Instant::now() + pause);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().trial = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(after: Option<u64>) -> Unavailable {
        Unavailable { after: after.map(Duration::from_secs), ..Unavailable::new(Cause::Failed, "500") }
    }

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_are_a_pause_that_grows_and_ends_with_a_trial() {
        let pause = Pause::default();
        for _ in 0..2 {
            pause.turn().unwrap().failed(&broken(None));
        }
        pause.turn().unwrap().failed(&broken(None));
        let paused = pause.turn().unwrap_err();
        assert_eq!((paused.cause, paused.after), (Cause::Paused, Some(FIRST)));
        assert!(paused.detail.ends_with("after: 500"), "{paused}");
        tokio::time::advance(FIRST).await;
        let trial = pause.turn().unwrap();
        assert_eq!(pause.turn().unwrap_err().cause, Cause::Paused, "one goes first");
        trial.failed(&broken(None));
        assert_eq!(pause.turn().unwrap_err().after, Some(2 * FIRST));
        tokio::time::advance(2 * FIRST).await;
        // A trial that was given up stands in nobody's way.
        drop(pause.turn().unwrap());
        pause.turn().unwrap().answered();
        let (one, two) = (pause.turn().unwrap(), pause.turn().unwrap());
        one.failed(&broken(None));
        two.answered();
        for _ in 0..40 {
            tokio::time::advance(LONGEST).await;
            pause.turn().unwrap().failed(&broken(None));
        }
        assert_eq!(pause.turn().unwrap_err().after, Some(LONGEST));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_after_another_tenants_answers_is_no_outage() {
        let pause = Pause::default();
        for _ in 0..FAILURES {
            pause.turn().unwrap().failed(&Unavailable::new(Cause::Tenant, "for tenant \"rival\""));
        }
        let paused = pause.turn().unwrap_err();
        assert_eq!((paused.cause, paused.after), (Cause::Tenant, Some(FIRST)));
        tokio::time::advance(FIRST).await;
        pause.turn().unwrap().failed(&broken(None));
        assert_eq!(pause.turn().unwrap_err().cause, Cause::Paused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_is_asked_for_is_kept_at_once() {
        let pause = Pause::default();
        pause.turn().unwrap().failed(&broken(Some(7)));
        assert_eq!(pause.turn().unwrap_err().after, Some(Duration::from_secs(7)));
        tokio::time::advance(Duration::from_secs(7)).await;
        pause.turn().unwrap().answered();
        assert!(pause.turn().is_ok());
    }
}
