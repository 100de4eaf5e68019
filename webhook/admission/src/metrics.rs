//! What the webhook counts. Labels come from closed sets.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use zastava_core::backend::terms::NoteKind;

use crate::decision::decide::Outcome;

/// Which endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Webhook {
    /// Pins.
    Mutate,
    /// Decides.
    Validate,
}

/// Why a record was not delivered to the intake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Dropped {
    /// No room in the queue.
    QueueFull,
    /// The intake refused it for good.
    Refused,
    /// The program ended before it was taken.
    Shutdown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWebhook {
    webhook: Webhook,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPolicy {
    policy: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// What the webhook counts; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    latency: Family<ByWebhook, Histogram>,
    decisions: Family<ByResult, Counter>,
    exceptions: Family<ByPolicy, Counter>,
    verdict_notes: Family<ByKind, Counter>,
    reported: Counter,
    dropped: Family<ByReason, Counter>,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        // Dashboards alert on 800 ms, the API server gives up at 10 s by default.
        let buckets = || {
            Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.5, 3.0, 6.0, 10.0, 30.0])
        };
        let metrics = Self {
            latency: Family::new_with_constructor(buckets),
            decisions: Family::default(),
            exceptions: Family::default(),
            verdict_notes: Family::default(),
            reported: Counter::default(),
            dropped: Family::default(),
        };
        registry.register(
            "zastava_admission_latency_seconds",
            "Time to answer an AdmissionReview",
            metrics.latency.clone(),
        );
        registry.register("zastava_admission_decisions", "Answers by their strictest image", metrics.decisions.clone());
        registry.register(
            "zastava_admission_exceptions",
            "Images that an exception let in, by policy",
            metrics.exceptions.clone(),
        );
        registry.register(
            "zastava_admission_verdict_notes",
            "Images let in although the backend warned, did not approve, or could not be asked, by kind",
            metrics.verdict_notes.clone(),
        );
        registry.register("zastava_admission_reports", "Records that the intake took", metrics.reported.clone());
        registry.register(
            "zastava_admission_reports_dropped",
            "Records that it did not, by reason",
            metrics.dropped.clone(),
        );
        metrics
    }

    /// An answer was given.
    pub fn answered(&self, webhook: Webhook, after: Duration) {
        self.latency.get_or_create(&ByWebhook { webhook }).observe(after.as_secs_f64());
    }

    /// An answer was decided so.
    pub fn decided(&self, result: Outcome) {
        self.decisions.get_or_create(&ByResult { result }).inc();
    }

    /// An exception of a policy let images in.
    pub fn excepted(&self, policy: &str, images: u64) {
        self.exceptions.get_or_create(&ByPolicy { policy: policy.to_owned() }).inc_by(images);
    }

    /// Images were let in with something worth telling of the backend's word.
    pub fn noted(&self, notes: &[NoteKind]) {
        for kind in notes {
            self.verdict_notes.get_or_create(&ByKind { kind: kind.into() }).inc();
        }
    }

    /// Records were taken by the intake.
    pub fn reported(&self, records: u64) {
        self.reported.inc_by(records);
    }

    /// Records were not.
    pub fn dropped(&self, reason: Dropped, records: u64) {
        self.dropped.get_or_create(&ByReason { reason }).inc_by(records);
    }
}

macro_rules! label_value {
    ($($label:ty),*) => {$(
        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                let text: &'static str = self.into();
                text.encode(encoder)
            }
        }
    )*};
}
label_value!(Webhook, Dropped, Outcome);
