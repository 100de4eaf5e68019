//! The program: it starts the parts, ties them together, and says what is wrong instead of ending.
//!
//! A kernel that refuses the probe, a disk that refuses the journal, a runtime or an intake that is away: none of them
//! ends the program. Each is told (readiness, NodeStatus as far as the intake is there, metrics) and tried again.

pub mod identity;
mod metrics;
mod observe;
pub mod settings;
mod state;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinSet};
use zastava_core::{
    health::{self, Health, HealthError},
    intake::{IntakeClient, IntakeError},
    shutdown::{self, ShutdownError},
};
use zastava_crds::wire::sync::RuleSet;

use self::{settings::AgentSettings, state::NodeState};
use crate::{
    journal::Journal,
    pipeline::{BPFFS, Observer, StartError},
    probe::pins::Pins,
    report::{Progress, ReportMetrics},
    sink::SinkMetrics,
    sync::{RULES_FILE, RulesFile, SyncMetrics, Syncer},
};

/// Time that the parts have to end.
const GRACE: Duration = Duration::from_secs(15);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No signals.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
    /// No client of the intake.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// No port for probes and metrics.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// The node can't be observed at all.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The boot has no id.
    #[error("{BOOT_ID}: {0}")]
    BootId(#[source] std::io::Error),
    /// A part ended by itself.
    #[error("{0} ended by itself")]
    PartEnded(&'static str),
}

impl AgentError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Shutdown(error) => error.category(),
            Self::Intake(error) => error.category(),
            Self::Health(error) => error.category(),
            Self::Start(error) => error.category(),
            Self::BootId(_) => "boot_id",
            Self::PartEnded(_) => "part_ended",
        }
    }
}

/// What the parts know of each other.
#[derive(Clone, Debug)]
struct Board {
    settings: Arc<AgentSettings>,
    intake: IntakeClient,
    /// Rules in force; without a hash before the first.
    rules: watch::Sender<Arc<RuleSet>>,
    observer: watch::Sender<Option<Observer>>,
    journal: watch::Sender<Option<Journal>>,
    progress: watch::Sender<Progress>,
    sink: SinkMetrics,
    report: ReportMetrics,
}

/// Runs until SIGTERM.
///
/// # Errors
/// [`AgentError`]: what can't get better by waiting.
pub async fn run(settings: AgentSettings) -> Result<(), AgentError> {
    let token = shutdown::token()?;
    let boot_id = std::fs::read_to_string(BOOT_ID).map_err(AgentError::BootId)?.trim().to_owned();
    let health = Health::default();
    let mut registry = Registry::default();
    let board = Board {
        intake: IntakeClient::new(&settings.intake)?,
        rules: watch::Sender::new(Arc::new(kept_rules(&settings))),
        observer: watch::Sender::new(None),
        journal: watch::Sender::new(None),
        progress: watch::Sender::new(Progress::default()),
        sink: SinkMetrics::new(&mut registry),
        report: ReportMetrics::new(&mut registry),
        settings: Arc::new(settings),
    };
    let rules = board.rules.subscribe();
    let state = NodeState::new(&board, &health);
    let status = state.status();
    metrics::register(&mut registry, &board, status.clone());
    let file = RulesFile::new(board.settings.state.join(RULES_FILE));
    let sync = SyncMetrics::new(&mut registry);
    let syncer = Syncer::new(board.intake.clone(), file, status.clone(), board.rules.clone(), sync);
    let (address, about) = (board.settings.http, metrics::about(status, &board));
    let (identified, serving) =
        (health.part("identity"), health::serve(address, health, registry, about, token.clone()));

    let mut parts: JoinSet<(&'static str, Result<(), AgentError>)> = JoinSet::new();
    parts.spawn(async move { ("health", serving.await.map_err(AgentError::from)) });
    let (ending, syncing) = (token.clone(), token.clone());
    parts.spawn(async move {
        state.run(ending).await;
        ("state", Ok(()))
    });
    parts.spawn(async move {
        syncer.run(syncing).await;
        ("sync", Ok(()))
    });
    let observing = observe::run(board, boot_id, identified, token.clone());
    parts.spawn(async move { ("observation", observing.await) });

    let first = parts.join_next().await;
    let asked = token.is_cancelled();
    token.cancel();
    if tokio::time::timeout(GRACE, async { while parts.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("not every part ended in time");
    }
    if asked && asks_nothing(&rules.borrow()) {
        detach();
    }
    match first {
        Some(Ok((_, Err(error)))) => Err(error),
        Some(Ok((part, Ok(())))) if !asked => Err(AgentError::PartEnded(part)),
        Some(Err(error)) => {
            tracing::error!(%error, "a part failed");
            Err(AgentError::PartEnded("a part"))
        }
        _ => Ok(()),
    }
}

/// The intake has said that no policy asks for observation. No rules yet say nothing.
fn asks_nothing(rules: &RuleSet) -> bool {
    !rules.hash.is_empty() && rules.policies.is_empty()
}

/// Nobody will adopt the probe: it goes with the last agent, or every exec on the node would pay for it until the next boot.
fn detach() {
    match Pins::new(BPFFS).remove() {
        Ok(()) => tracing::info!("no policy asks for observation: the probe is detached"),
        Err(error) => tracing::warn!(%error, "the probe stays attached until {BPFFS} is removed"),
    }
}

/// The rules that were in force last: they are again until the intake answers.
fn kept_rules(settings: &AgentSettings) -> RuleSet {
    match RulesFile::new(settings.state.join(RULES_FILE)).load() {
        Ok(Some(rules)) => {
            tracing::info!(hash = rules.hash, policies = rules.policies.len(), "rules kept from before are in force");
            rules
        }
        Ok(None) => RuleSet::default(),
        Err(error) => {
            tracing::error!(%error, category = error.category(), "rules kept from before can't be used");
            RuleSet::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_goes_only_when_the_intake_has_said_that_nobody_asks() {
        let said = |hash: &str| RuleSet { hash: hash.to_owned(), ..RuleSet::default() };
        assert!(!asks_nothing(&said("")));
        assert!(asks_nothing(&said("sha256:1")));
    }
}
