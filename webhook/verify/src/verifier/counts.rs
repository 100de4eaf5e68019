//! What the verifier counts.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counts of a verifier; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Verdicts that were remembered.
    pub(super) hits: Counter,
    /// Verifications begun, whose registry was asked.
    pub(super) verifications: Counter,
}

impl Counts {
    /// Registers them under admission's names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "zastava_admission_cache_hits",
            "Verdicts answered from memory, without a question to a registry",
            self.hits.clone(),
        );
        registry.register(
            "zastava_admission_verifications",
            "Verifications begun; equal ones in flight are one",
            self.verifications.clone(),
        );
    }
}
