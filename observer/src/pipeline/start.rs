//! Starting it all, and starting it again when the probe is gone.

use std::{io, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::sync::{CoverageReason, RuleSet};

use super::{
    Observed, Observer, ObserverConfig, Store,
    identity::Identity,
    running::{LOOK, Running},
};
use crate::{
    containers::follow,
    probe::{Pins, Probe, ProbeError, Settings, attach},
};

/// The observer can't run at all. A kernel that refuses the probe is no such thing: it is told by
/// [`Observer::observed`], and tried again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node does not tell which boot this is, so no event could have an identity.
    #[error("{path} can't be read: {source}")]
    BootId {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StartError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::BootId { .. } => "boot_id",
        }
    }
}

/// A probe that could not be attached is tried again after so long.
const AGAIN: Duration = Duration::from_secs(30);
/// Starts to observe; must be called within a tokio runtime. The probe is attached, or known to be refused, when it
/// returns. Until the first rules are set, what runs waits within the bounds of `config`, and the kernel goes on with
/// the rules of an earlier agent.
pub async fn start(
    config: ObserverConfig,
    store: Arc<dyn Store>,
    token: CancellationToken,
) -> Result<Observer, StartError> {
    let identity = Identity::read(&config.node_uid, &config.proc)?;
    let (rules, told) = watch::channel(Arc::new(RuleSet::default()));
    let (tell, observed) = watch::channel(Arc::new(Observed::default()));
    let life = Life { config, store, identity, told, tell, token };
    let probe = life.attach().await;
    tokio::spawn(life.run(probe));
    Ok(Observer { rules, observed })
}

struct Life {
    config: ObserverConfig,
    store: Arc<dyn Store>,
    identity: Identity,
    told: watch::Receiver<Arc<RuleSet>>,
    tell: watch::Sender<Arc<Observed>>,
    token: CancellationToken,
}

impl Life {
    /// Attaches the probe; why not is told.
    async fn attach(&self) -> Option<Probe> {
        let pins = Pins::new(&self.config.bpffs);
        let settings =
            Settings { proc: self.config.proc.clone(), host_pid: 1, heartbeat_expiry: self.config.heartbeat_expiry };
        match spawn_blocking(move || attach(&pins, &settings)).await {
            Ok(Ok(probe)) => {
                tracing::info!(adopted = probe.adopted, "the probe is attached");
                Some(probe)
            }
            Ok(Err(error)) => {
                self.refused(&error);
                None
            }
            Err(error) => {
                tracing::error!(%error, "attaching the probe failed");
                self.missing(CoverageReason::ProbeRefused);
                None
            }
        }
    }

    fn refused(&self, error: &ProbeError) {
        tracing::error!(%error, category = error.category(), "this node is not observed");
        self.missing(error.coverage_reason());
    }

    fn missing(&self, reason: CoverageReason) {
        self.publish(Observed { reasons: [reason].into(), ..Observed::default() });
    }

    fn publish(&self, observed: Observed) {
        self.tell.send_if_modified(|old| {
            let changed = **old != observed;
            if changed {
                *old = Arc::new(observed);
            }
            changed
        });
    }

    async fn run(self, mut probe: Option<Probe>) {
        loop {
            if let Some(probe) = probe.take()
                && let Err(error) = self.observe(probe).await
            {
                self.refused(&error);
            }
            tokio::select! {
                () = self.token.cancelled() => return,
                () = sleep(AGAIN), if !self.token.is_cancelled() => {}
            }
            probe = self.attach().await;
        }
    }

    /// Observes until the token ends it, or the probe is gone.
    async fn observe(&self, probe: Probe) -> Result<(), ProbeError> {
        let token = self.token.child_token();
        let (running, threads) = Running::start(&self.config, &self.identity, &self.store, probe, &token)?;
        let (sockets, shared) = (self.config.runtime.clone(), running.shared.clone());
        let follower = token.clone();
        let follow = tokio::spawn(async move { follow(sockets, shared.as_ref(), follower).await });
        let test = running.clone().test_again_and_again(self.config.self_test.clone());
        let test = tokio::spawn(token.clone().run_until_cancelled_owned(test));
        let handover = running.handover.clone().map(|handover| {
            let keeping = handover.clone().keep_changes(running.shared.clone());
            (handover, tokio::spawn(token.clone().run_until_cancelled_owned(keeping)))
        });
        let ended = self.keep(&running).await;
        token.cancel();
        let _ = tokio::join!(follow, test);
        if let Some((handover, keeping)) = handover {
            let shared = running.shared.clone();
            let _ = keeping.await;
            let _ = spawn_blocking(move || handover.keep(&shared)).await;
        }
        running.wakers.wake();
        // A thread may be hashing a file: at most some seconds.
        let joined =
            spawn_blocking(move || threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count() == 0);
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the rings failed");
        }
        ended
    }

    /// Rules in, the node's own words out.
    async fn keep(&self, running: &Running) -> Result<(), ProbeError> {
        let mut told = self.told.clone();
        told.mark_changed();
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = true;
        loop {
            tokio::select! {
                () = self.token.cancelled() => return Ok(()),
                // When nobody holds the observer any more, the rules it has stay.
                changed = told.changed(), if open => {
                    open = changed.is_ok();
                    let rules = told.borrow_and_update().clone();
                    let register = running.shared.register.clone();
                    blocking(move || {
                        register.set_rules(&rules);
                        Ok(())
                    })
                    .await?;
                }
                _ = tick.tick() => {
                    let running = running.clone();
                    let (observed, pinned) =
                        blocking(move || Ok((running.look()?, running.statistics.is_pinned()))).await?;
                    self.publish(observed);
                    if !pinned {
                        return Err(ProbeError::Refused("its pins were taken away".to_owned()));
                    }
                }
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProbeError> + Send + 'static,
) -> Result<T, ProbeError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(ProbeError::Refused(error.to_string())))
}
