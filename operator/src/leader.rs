//! Leader election over one Lease, with a local deadline that is checked at the moment of writing.
//!
//! Only a replica that holds an unexpired [`Claim`] writes. The deadline is counted on this machine's monotonic clock
//! from *before* the renewal was sent and ends ahead of the lease, so that a leader that was cut off stops before
//! another replica may start.

mod lease;

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub use self::lease::{ApiLease, LeaseError};
use self::lease::{Candidate, LeaseStore, Standing};

/// Name of the Lease in the release namespace.
pub const LEASE_NAME: &str = "zastava-operator";
/// Annotation of the Lease: `ip:port` of the leader's intake.
pub const ADDRESS_ANNOTATION: &str = "zastava.stella-ops.org/intake-address";

/// How long a lease lives without renewal.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// The leader stops writing this long before its lease could be taken over.
const MARGIN: Duration = Duration::from_secs(5);
/// Time between two looks at the lease, and the bound of one look.
const PERIOD: Duration = Duration::from_secs(2);

/// This replica does not lead, or can't prove that it still does.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("this replica does not hold the lease")]
pub struct NotLeading;

impl NotLeading {
    /// The closed class of this error, for metrics.
    pub fn category(self) -> &'static str {
        "not_leading"
    }
}

/// Proof, at the moment it was made, that this replica leads. Each write takes one by value: it can't be kept for later.
#[derive(Debug)]
pub struct Claim {
    deadline: Instant,
}

impl Claim {
    /// When this proof ends: a write must be given up by then.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name of its pod.
    pub name: String,
    /// `ip:port` of its intake.
    pub address: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct State {
    held_until: Option<Instant>,
    term: u64,
    holder: Option<Holder>,
}

/// What the rest of the program knows of the election.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<State>,
}

impl Leadership {
    /// Proof that this replica leads now.
    ///
    /// # Errors
    /// [`NotLeading`] when it does not, or when its last renewal is too old to be sure.
    pub fn claim(&self) -> Result<Claim, NotLeading> {
        match self.state.borrow().held_until {
            Some(deadline) if Instant::now() < deadline => Ok(Claim { deadline }),
            _ => Err(NotLeading),
        }
    }

    /// The leader as far as this replica knows.
    pub fn holder(&self) -> Option<Holder> {
        self.state.borrow().holder.clone()
    }

    /// Waits until this replica has begun a term later than `term`, and returns it. Never returns after the election ended.
    pub async fn next_term(&self, term: u64) -> u64 {
        let mut state = self.state.clone();
        let begun = state.wait_for(|s| s.held_until.is_some() && s.term > term).await.map(|state| state.term);
        match begun {
            Ok(term) => term,
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until this replica no longer leads.
    pub async fn until_lost(&self) {
        // An election that ended is lost too.
        let _ = self.state.clone().wait_for(|s| s.held_until.is_none()).await;
    }

    /// A leadership for tests of other rooms: held for as long as the returned guard lives.
    #[cfg(test)]
    pub fn held_for_tests() -> (Self, impl Send) {
        let held_until = Some(Instant::now() + Duration::from_hours(1));
        let (tx, state) = watch::channel(State { held_until, term: 1, holder: None });
        (Self { state }, tx)
    }

    /// A leadership for tests of other rooms: held by another.
    #[cfg(test)]
    pub fn held_by_for_tests(holder: Holder) -> (Self, impl Send) {
        let (tx, state) = watch::channel(State { held_until: None, term: 0, holder: Some(holder) });
        (Self { state }, tx)
    }

    /// A leadership for tests of other rooms: never held.
    #[cfg(test)]
    pub fn never_for_tests() -> Self {
        Self { state: watch::channel(State::default()).1 }
    }
}

/// Starts the election. The task ends only after `token` is cancelled, when it has given the lease back; the process
/// must not outlive it.
pub fn start(
    store: ApiLease,
    identity: Holder,
    token: CancellationToken,
) -> (Leadership, JoinHandle<Result<(), LeaseError>>) {
    let (tx, state) = watch::channel(State::default());
    (Leadership { state }, tokio::spawn(elect(store, identity, tx, token)))
}

async fn elect<S: LeaseStore>(
    store: S,
    identity: Holder,
    state: watch::Sender<State>,
    token: CancellationToken,
) -> Result<(), LeaseError> {
    let mut candidate = Candidate::new(identity.clone(), LEASE_DURATION);
    loop {
        let began = Instant::now();
        match tokio::time::timeout(PERIOD, candidate.contend(&store)).await {
            Ok(Ok(Standing::Leading)) => state.send_modify(|s| {
                if s.held_until.is_none() {
                    s.term += 1;
                    tracing::info!(holder = identity.name, term = s.term, "leading");
                }
                s.held_until = Some(began + LEASE_DURATION - MARGIN);
                s.holder = Some(identity.clone());
            }),
            Ok(Ok(Standing::Following(holder))) => {
                state.send_if_modified(|s| {
                    let changed = s.held_until.take().is_some() || s.holder != holder;
                    if changed {
                        tracing::info!(holder = holder.as_ref().map(|h| h.name.as_str()), "following");
                    }
                    s.holder = holder;
                    changed
                });
            }
            Ok(Err(error)) => tracing::warn!(%error, category = error.category(), "lease was not renewed"),
            Err(_) => tracing::warn!("lease was not renewed: the API server did not answer in time"),
        }
        state.send_if_modified(|s| {
            let expired = s.held_until.is_some_and(|until| Instant::now() >= until);
            if expired {
                tracing::warn!("no renewal before the local deadline: no longer leading");
                s.held_until = None;
            }
            expired
        });
        tokio::select! {
            () = tokio::time::sleep_until(began + PERIOD) => {}
            () = token.cancelled() => break,
        }
    }
    let led = state.borrow().held_until.is_some();
    // Writing stops before the lease is given away, never after.
    state.send_modify(|s| s.held_until = None);
    if led {
        match tokio::time::timeout(PERIOD, candidate.release(&store)).await {
            Ok(Ok(())) => tracing::info!("lease released"),
            Ok(Err(error)) => tracing::warn!(%error, "lease was not released, it will expire"),
            Err(_) => tracing::warn!("lease was not released in time, it will expire"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
