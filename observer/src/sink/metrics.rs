//! Metrics of what went into the journal.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use zastava_crds::wire::event::{EventDetail, RuntimeEvent};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Type {
    r#type: &'static str,
}

/// Metrics of what went into the journal. Clones count into the same.
#[derive(Clone, Debug, Default)]
pub struct SinkMetrics {
    drift: Family<Type, Counter>,
    totals: Arc<[AtomicU64; 3]>,
}

impl SinkMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("zastava_drift_events", "Drift, by its class", metrics.drift.clone());
        metrics
    }

    pub(super) fn stored(&self, event: &RuntimeEvent) {
        let count = event.combined.as_ref().map_or(1, |combined| combined.count);
        match &event.detail {
            EventDetail::Drift { class, .. } => {
                self.drift.get_or_create(&Type { r#type: class.into() }).inc_by(count);
                self.totals[0].fetch_add(count, Relaxed);
            }
            EventDetail::Library { .. } => {
                self.totals[2].fetch_add(count, Relaxed);
            }
            EventDetail::DeniedProcess { .. } => {
                self.totals[1].fetch_add(count, Relaxed);
            }
            EventDetail::Throttling { .. } | EventDetail::Lost { .. } => {}
        }
    }

    /// Drift, processes that a policy denies, and libraries that are not the image's.
    pub fn counts(&self) -> [u64; 3] {
        [0, 1, 2].map(|at| self.totals[at].load(Relaxed))
    }
}
