//! What is counted of the intake. Labels come from closed sets.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// `reports` or `sync`.
    endpoint: &'static str,
    /// `ok`, or the category of an error.
    result: &'static str,
}

/// Counts of the intake's requests; clones count together.
#[derive(Clone, Debug, Default)]
pub struct IntakeMetrics {
    requests: Family<RequestLabels, Counter>,
}

impl IntakeMetrics {
    /// Makes them known to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("zastava_intake_requests", "Requests to the intake", self.requests.clone());
    }

    pub(super) fn answered(&self, endpoint: &'static str, result: &'static str) {
        self.requests.get_or_create(&RequestLabels { endpoint, result }).inc();
    }
}
