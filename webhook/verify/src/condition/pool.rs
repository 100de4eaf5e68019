//! Where conditions are evaluated: off the threads that speak with registries, few at once.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{Conditions, Unmet};
use crate::answer::{Unknown, UnknownCause};

/// Longest wait for an answer. The work itself is bounded; its thread is given back when it is done.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The pool.
pub(crate) struct Pool {
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Pool {
    /// With so many evaluations at once; more wait for their turn so long.
    pub(crate) fn new(places: usize, patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), patience }
    }

    /// Whether a signed payload meets the conditions. Without a place, or too late, nothing can be said.
    pub(crate) async fn evaluate(
        &self,
        conditions: &Conditions,
        payload: Arc<[u8]>,
        now: Timestamp,
    ) -> Result<Result<(), Unmet>, Unknown> {
        if conditions.is_empty() {
            return Ok(Ok(()));
        }
        let turn = tokio::time::timeout(self.patience, self.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = turn else {
            return Err(Unknown::new(UnknownCause::Busy, "conditions were not evaluated: too many others are"));
        };
        let conditions = conditions.clone();
        let work = tokio::task::spawn_blocking(move || {
            let met = conditions.evaluate(&payload, now);
            drop(place);
            met
        });
        match tokio::time::timeout(TIMEOUT, work).await {
            Ok(Ok(met)) => Ok(met),
            Ok(Err(_)) => Ok(Err(Unmet::Condition("conditions broke the evaluator".to_owned()))),
            Err(_) => {
                Err(Unknown::new(UnknownCause::Deadline, "conditions were not evaluated in time: make them simpler"))
            }
        }
    }
}
