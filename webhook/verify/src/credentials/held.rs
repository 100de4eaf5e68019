//! Exchanged credentials, kept until shortly before they end and renewed ahead of that; who asks at once waits for one
//! exchange.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::time::{Instant, timeout};

use super::{Exchange, Exchanged};
use crate::{
    answer::{Unknown, UnknownCause},
    keychain::Credential,
};

/// Longest that one exchange may take, all its requests together.
const TIMEOUT: Duration = Duration::from_secs(20);
/// After a failed exchange the services are left alone for this long.
const PAUSE: Duration = Duration::from_secs(5);
/// Credentials are given up this long before they end, so that they don't end on their way; less where they are short.
const MARGIN: Duration = Duration::from_mins(1);
const MIN_LIFETIME: Duration = Duration::from_secs(10);
/// No cloud gives them for longer.
const MAX_LIFETIME: Duration = Duration::from_hours(12);

/// Credentials and how long they may be used.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub(crate) credential: Credential,
    pub(crate) ends: Instant,
    renewed_from: Instant,
}

type Flight = Shared<BoxFuture<'static, Result<Fresh, Unknown>>>;

#[derive(Default)]
struct State {
    fresh: Option<Fresh>,
    /// The exchange that is under way.
    flight: Option<Flight>,
    failed: Option<(Instant, Unknown)>,
}

/// The credentials of one registry.
pub(crate) struct Held {
    registry: String,
    exchange: Arc<dyn Exchange>,
    state: Mutex<State>,
}

impl Held {
    pub(crate) fn new(registry: &str, exchange: Arc<dyn Exchange>) -> Arc<Self> {
        Arc::new(Self { registry: registry.to_owned(), exchange, state: Mutex::default() })
    }

    /// Those that hold now; else those of one exchange, shared by all who wait for it.
    pub(crate) async fn credential(self: &Arc<Self>) -> Result<Fresh, Unknown> {
        let flight = {
            let now = Instant::now();
            let mut state = self.lock();
            let failed = state.failed.as_ref().filter(|(until, _)| now < *until).map(|(_, unknown)| unknown.clone());
            let fresh = state.fresh.clone().filter(|fresh| now < fresh.ends);
            match (fresh, failed) {
                (Some(fresh), failed) => {
                    if now >= fresh.renewed_from && failed.is_none() {
                        // Nobody waits for it.
                        drop(self.start(&mut state));
                    }
                    return Ok(fresh);
                }
                (None, Some(unknown)) => return Err(unknown),
                (None, None) => self.start(&mut state),
            }
        };
        flight.await
    }

    /// Starts an exchange unless one is under way. It goes on when nobody waits for it any more.
    fn start(self: &Arc<Self>, state: &mut State) -> Flight {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let broken = || Unknown::new(UnknownCause::CredentialExchange, "an exchange of credentials was cut off");
        let held = self.clone();
        let work = tokio::spawn(async move {
            // A panic is a failure as others are, or its flight would stay for good.
            let renewed = AssertUnwindSafe(held.renew()).catch_unwind().await;
            let result = renewed.unwrap_or_else(|_| Err(broken()));
            let mut state = held.lock();
            state.flight = None;
            match &result {
                Ok(fresh) => (state.fresh, state.failed) = (Some(fresh.clone()), None),
                Err(unknown) => state.failed = Some((Instant::now() + PAUSE, unknown.clone())),
            }
            result
        });
        let flight = async move { work.await.unwrap_or_else(|_| Err(broken())) }.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    async fn renew(&self) -> Result<Fresh, Unknown> {
        let exchanged = timeout(TIMEOUT, self.exchange.exchange()).await;
        let Ok(exchanged) = exchanged else {
            let message = format!("no credentials for {}: no answer in time", self.registry);
            return Err(Unknown::new(UnknownCause::CredentialExchange, message));
        };
        match exchanged {
            Ok(Exchanged { credential, lifetime }) => {
                let lifetime = lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME);
                let now = Instant::now();
                let ends = now + lifetime - MARGIN.min(lifetime / 10);
                Ok(Fresh { credential, ends, renewed_from: now + lifetime * 3 / 4 })
            }
            Err(error) => {
                tracing::warn!(registry = self.registry, category = error.category(), %error, "no credentials");
                Err(error.unknown(&self.registry))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
