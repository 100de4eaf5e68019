//! Metrics of reporting.

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

/// Metrics of reporting. Clones count into the same.
#[derive(Clone, Debug, Default)]
pub struct ReportMetrics {
    taken: Counter,
    refused: Family<Reason, Counter>,
    retries: Family<Reason, Counter>,
}

impl ReportMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for reason in RetryReason::iter() {
            let _ = metrics.retries.get_or_create(&Reason { reason: reason.into() });
        }
        registry.register("zastava_reports", "Records that the intake merged into findings", metrics.taken.clone());
        let help = "Records that the intake refused for good";
        registry.register("zastava_reports_refused", help, metrics.refused.clone());
        let help = "Attempts to report that have to be made again";
        registry.register("zastava_report_retries", help, metrics.retries.clone());
        metrics
    }

    pub(super) fn taken(&self, merged: u64) {
        self.taken.inc_by(merged);
    }

    pub(super) fn refused(&self, reason: &'static str, count: u64) {
        self.refused.get_or_create(&Reason { reason }).inc_by(count);
    }

    pub(super) fn retried(&self, reason: RetryReason) {
        self.retries.get_or_create(&Reason { reason: reason.into() }).inc();
    }
}
