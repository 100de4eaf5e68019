//! What is counted of the backend. Labels come from closed sets.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::Cause;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    /// `answered`, or the cause.
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCause {
    cause: Cause,
}

impl EncodeLabelValue for Cause {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        let text: &'static str = self.into();
        text.encode(encoder)
    }
}

/// What is counted; cheap to clone.
#[derive(Clone, Debug)]
pub struct BackendMetrics {
    latency: Family<ByResult, Histogram>,
    hits: Counter,
    misses: Counter,
    unavailable: Family<ByCause, Counter>,
    ignored: Counter,
}

impl BackendMetrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let buckets = || Histogram::new([0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0]);
        let metrics = Self {
            latency: Family::new_with_constructor(buckets),
            hits: Counter::default(),
            misses: Counter::default(),
            unavailable: Family::default(),
            ignored: Counter::default(),
        };
        registry.register(
            "zastava_runtime_backend_latency_seconds",
            "Time until the backend answered a batch of questions, or did not",
            metrics.latency.clone(),
        );
        registry.register(
            "zastava_verdict_cache_hits",
            "Questions about an image that a fresh word of the backend answered",
            metrics.hits.clone(),
        );
        registry.register(
            "zastava_verdict_cache_misses",
            "Questions about an image for which the backend was asked, or an equal question was waited for",
            metrics.misses.clone(),
        );
        registry.register(
            "zastava_verdict_unavailable",
            "Questions about an image that the backend did not answer, by cause",
            metrics.unavailable.clone(),
        );
        registry.register(
            "zastava_verdict_answers_ignored",
            "Answers of the backend about images that it was not asked about",
            metrics.ignored.clone(),
        );
        metrics
    }

    pub(super) fn asked(&self, failure: Option<Cause>, after: Duration) {
        let result = failure.map_or("answered", Into::into);
        self.latency.get_or_create(&ByResult { result }).observe(after.as_secs_f64());
    }

    pub(super) fn hit(&self) {
        self.hits.inc();
    }

    pub(super) fn missed(&self) {
        self.misses.inc();
    }

    pub(super) fn unavailable(&self, cause: Cause) {
        self.unavailable.get_or_create(&ByCause { cause }).inc();
    }

    pub(super) fn ignored(&self, answers: usize) {
        self.ignored.inc_by(u64::try_from(answers).unwrap_or(u64::MAX));
    }
}
