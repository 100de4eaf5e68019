//! What the operator counts. Labels come from closed sets.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// A write, by its object and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    /// [`crate::rollout::Object`], or `policy_status`.
    pub object: &'static str,
    /// `applied`, `removed`, or the category of an error.
    pub result: &'static str,
}

/// A pass of a loop, by how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PassLabels {
    /// `rollout` or `policy`.
    pub controller: &'static str,
    /// `ok`, or the category of an error.
    pub result: &'static str,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabels {
    /// `ca`, `webhook` or `intake`.
    pub certificate: &'static str,
}

/// The operator's own metrics; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    writes: Family<WriteLabels, Counter>,
    passes: Family<PassLabels, Counter>,
    expiry: Family<CertificateLabels, Gauge>,
}

impl Metrics {
    /// Makes them known to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("zastava_operator_writes", "Writes to the API server", self.writes.clone());
        registry.register("zastava_operator_passes", "Passes of the operator's loops", self.passes.clone());
        registry.register(
            "zastava_certificate_expiry_timestamp_seconds",
            "When a certificate ends, in seconds since 1970",
            self.expiry.clone(),
        );
    }

    /// Counts a write.
    pub fn wrote(&self, object: &'static str, result: &'static str) {
        self.writes.get_or_create(&WriteLabels { object, result }).inc();
    }

    /// Counts a pass.
    pub fn passed(&self, controller: &'static str, result: &'static str) {
        self.passes.get_or_create(&PassLabels { controller, result }).inc();
    }

    /// Notes a certificate's end.
    pub fn expires(&self, certificate: &'static str, at: jiff::Timestamp) {
        self.expiry.get_or_create(&CertificateLabels { certificate }).set(at.as_second());
    }
}
