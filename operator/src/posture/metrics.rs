//! What posture counts. Labels come from closed sets.

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    /// `proven`, or the reason of a refusal or of an unknown.
    result: &'static str,
}

/// Counts of posture; clones count together.
#[derive(Clone, Debug, Default)]
pub struct PostureMetrics {
    checks: Family<ResultLabels, Counter>,
    writes: Family<ResultLabels, Counter>,
    images: Gauge,
    overdue: Gauge,
    last: Gauge,
}

impl PostureMetrics {
    /// Makes them known to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("zastava_posture_checks", "Checks of a running image under a policy", self.checks.clone());
        registry.register("zastava_posture_finding_writes", "Findings opened and resolved", self.writes.clone());
        registry.register("zastava_posture_images", "Running images to check, once a policy", self.images.clone());
        registry.register("zastava_posture_overdue", "Checks that wait for their turn", self.overdue.clone());
        registry.register(
            "zastava_posture_last_run_timestamp_seconds",
            "When all running images were last looked over, in seconds since 1970",
            self.last.clone(),
        );
    }

    pub(super) fn checked(&self, result: &'static str) {
        self.checks.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn wrote(&self, result: &'static str) {
        self.writes.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn looked(&self, images: usize, overdue: usize, now: Timestamp) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.images.set(number(images));
        self.overdue.set(number(overdue));
        // What waits for its turn has not been looked over.
        if overdue == 0 {
            self.last.set(now.as_second());
        }
    }

    #[cfg(test)]
    pub(super) fn checks(&self, result: &'static str) -> u64 {
        self.checks.get_or_create(&ResultLabels { result }).get()
    }

    #[cfg(test)]
    pub(super) fn writes(&self, result: &'static str) -> u64 {
        self.writes.get_or_create(&ResultLabels { result }).get()
    }
}
