//! What is counted of reports and findings. Labels come from closed sets.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use zastava_crds::wire::report::BatchReceipt;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordLabels {
    /// `merged`, or a `RefusedReason`.
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    /// `ok`, or the category of an error.
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LossLabels {
    /// A `LossReason`.
    reason: &'static str,
}

/// Counts of the intake, the findings and the scans; clones count together.
#[derive(Clone, Debug, Default)]
pub struct FindingMetrics {
    records: Family<RecordLabels, Counter>,
    batches: Family<ResultLabels, Counter>,
    lost: Family<LossLabels, Counter>,
    noise: Family<ResultLabels, Counter>,
    writes: Family<ResultLabels, Counter>,
    expired: Counter,
    scans: Family<ResultLabels, Counter>,
    findings: Gauge,
}

impl FindingMetrics {
    /// Makes them known to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("zastava_intake_records", "Records of acknowledged batches", self.records.clone());
        registry.register("zastava_intake_batches", "Batches of reports", self.batches.clone());
        registry.register("zastava_runtime_lost_events", "Events that observers say they lost", self.lost.clone());
        let help = "Times that a container became so noisy that its events are combined, and calm again";
        registry.register("zastava_runtime_throttling", help, self.noise.clone());
        registry.register("zastava_finding_writes", "Writes of findings", self.writes.clone());
        registry.register("zastava_findings_expired", "Findings removed after their time", self.expired.clone());
        registry.register("zastava_scans", "Tries of a scan", self.scans.clone());
        registry.register("zastava_findings", "Findings in the cluster", self.findings.clone());
    }

    pub(crate) fn acknowledged(&self, receipt: &BatchReceipt) {
        self.batch("ok");
        self.records.get_or_create(&RecordLabels { result: "merged" }).inc_by(receipt.merged);
        for refused in &receipt.refused {
            self.records.get_or_create(&RecordLabels { result: refused.reason.into() }).inc_by(refused.count);
        }
    }

    pub(crate) fn batch(&self, result: &'static str) {
        self.batches.get_or_create(&ResultLabels { result }).inc();
    }

    pub(crate) fn lost(&self, reason: &'static str, count: u64) {
        self.lost.get_or_create(&LossLabels { reason }).inc_by(count);
    }

    pub(crate) fn noise(&self, [started, stopped]: [u64; 2]) {
        for (result, count) in [("started", started), ("stopped", stopped)] {
            self.noise.get_or_create(&ResultLabels { result }).inc_by(count);
        }
    }

    pub(crate) fn wrote(&self, result: &'static str) {
        self.writes.get_or_create(&ResultLabels { result }).inc();
    }

    pub(crate) fn expired(&self) {
        self.expired.inc();
    }

    pub(crate) fn scanned(&self, result: &'static str) {
        self.scans.get_or_create(&ResultLabels { result }).inc();
    }

    pub(crate) fn findings(&self, count: usize) {
        self.findings.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
