//! Metrics of syncing.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use strum::IntoEnumIterator as _;
use zastava_core::intake::RetryReason;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Metrics of syncing. Clones count into the same.
#[derive(Clone, Debug, Default)]
pub struct SyncMetrics {
    synced: Counter,
    failed: Family<Reason, Counter>,
    applied: Counter,
}

impl SyncMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for reason in RetryReason::iter() {
            let _ = metrics.failed.get_or_create(&Reason { reason: reason.into() });
        }
        registry.register("zastava_syncs", "Answers of the intake to the node's state", metrics.synced.clone());
        let help = "Syncs with the intake, or saving the rules it sent, that failed";
        registry.register("zastava_sync_failures", help, metrics.failed.clone());
        registry.register("zastava_rule_sets", "Rule sets put in force", metrics.applied.clone());
        metrics
    }

    pub(super) fn synced(&self) {
        self.synced.inc();
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.failed.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn applied(&self) {
        self.applied.inc();
    }
}
