//! The way into the journal: what was seen, redacted and bounded, once.

mod metrics;
pub mod redact;

use std::borrow::Cow;

use jiff::Timestamp;
use zastava_crds::wire::event::{EventDetail, LossReason, RuntimeEvent};

pub use self::metrics::SinkMetrics;
use crate::{
    journal::{Appended, Journal, JournalError, LossWindow, RecordId, Stream},
    pipeline::{Lane, Store, StoreError},
};

/// A journal as the place where events go.
#[derive(Clone, Debug)]
pub struct JournalSink {
    journal: Journal,
    metrics: SinkMetrics,
}

impl JournalSink {
    /// Into `journal`.
    pub fn new(journal: Journal, metrics: SinkMetrics) -> Self {
        Self { journal, metrics }
    }

    fn put(&self, lane: Lane, id: RecordId, event: &RuntimeEvent) -> Result<(), StoreError> {
        let stream = Stream { severity: event.severity, lane };
        let payload = encode(event)?;
        match self.journal.append(stream, id, &payload) {
            Err(JournalError::RecordTooLarge { .. }) => {
                // Arguments are what is large; the rest is evidence.
                let mut event = event.clone();
                if let Some(process) = event.detail.process_mut() {
                    process.args.clear();
                    process.args_truncated = true;
                }
                self.journal.append(stream, id, &encode(&event)?)
            }
            outcome => outcome,
        }
        .map(|appended| {
            if appended == Appended::Stored {
                self.metrics.stored(event);
            }
        })
        .map_err(|error| self.refusal(&error))
    }

    fn refusal(&self, error: &JournalError) -> StoreError {
        match error {
            // The journal has counted this one itself.
            JournalError::Full => StoreError::Refused(error.to_string()),
            JournalError::RecordTooLarge { .. } => {
                let now = Timestamp::now();
                let lost = self.journal.lose(LossReason::JournalWrite, LossWindow { count: 1, from: now, until: now });
                if let Err(error) = lost {
                    tracing::error!(%error, category = error.category(), "a loss can't be written");
                }
                StoreError::Refused(error.to_string())
            }
            _ => StoreError::Unavailable(error.to_string()),
        }
    }
}

impl Store for JournalSink {
    fn append(&self, lane: Lane, event: &RuntimeEvent) -> Result<(), StoreError> {
        let mut id = RecordId::default();
        hex::decode_to_slice(&event.event_id.0, &mut id)
            .map_err(|error| StoreError::Refused(format!("event id {:?}: {error}", event.event_id.0)))?;
        self.put(lane, id, &redacted(event))
    }
}

fn encode(event: &RuntimeEvent) -> Result<String, StoreError> {
    serde_json::to_string(event).map_err(|error| StoreError::Refused(error.to_string()))
}

fn redacted(event: &RuntimeEvent) -> Cow<'_, RuntimeEvent> {
    let mut event = Cow::Borrowed(event);
    let has_args = match &event.detail {
        EventDetail::Drift { process, .. }
        | EventDetail::Library { process, .. }
        | EventDetail::DeniedProcess { process, .. } => !process.args.is_empty(),
        EventDetail::Throttling { .. } | EventDetail::Lost { .. } => false,
    };
    if has_args && let Some(process) = event.to_mut().detail.process_mut() {
        process.args = redact::arguments(&process.args);
    }
    event
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;
    use zastava_crds::wire::event::Severity;

    use super::*;
    use crate::{
        fixtures::{self, drift, event_id},
        journal::{BatchBound, CursorName},
    };

    const BOUND: BatchBound = BatchBound { records: 1000, bytes: 1 << 20, overhead: 0 };

    fn sink(folder: &Path) -> JournalSink {
        JournalSink::new(fixtures::journal(folder), SinkMetrics::default())
    }

    fn events(sink: &JournalSink) -> Vec<RuntimeEvent> {
        let batch = sink.journal.begin(CursorName::Report, BOUND).unwrap().unwrap();
        batch.payloads.iter().map(|payload| serde_json::from_str(payload).unwrap()).collect()
    }

    #[test]
    fn an_event_comes_out_as_it_went_in_but_for_secrets() {
        let folder = TempDir::new().unwrap();
        let sink = sink(folder.path());
        let mut event = drift(1, Severity::High);
        let arguments = |event: &mut RuntimeEvent, args: [&str; 3]| {
            event.detail.process_mut().unwrap().args = args.map(str::to_owned).to_vec();
        };
        arguments(&mut event, ["/tmp/x", "--password", "hunter2"]);
        sink.append(Lane::Urgent, &event).unwrap();
        arguments(&mut event, ["/tmp/x", "--password", "[redacted]"]);
        assert_eq!(events(&sink), [event]);
    }

    #[test]
    fn the_last_256_of_each_lane_are_known_again_after_a_restart_even_when_all_were_acknowledged() {
        let folder = TempDir::new().unwrap();
        let first = sink(folder.path());
        for n in 0..300 {
            first.append(Lane::Routine, &drift(n, Severity::Low)).unwrap();
            first.append(Lane::Urgent, &drift(1000 + n, Severity::High)).unwrap();
        }
        while let Some(batch) = first.journal.begin(CursorName::Report, BOUND).unwrap() {
            first.journal.acknowledge(CursorName::Report, batch.seq).unwrap();
        }
        drop(first);
        let again = sink(folder.path());
        for n in 300 - 256..300 {
            again.append(Lane::Routine, &drift(n, Severity::Low)).unwrap();
            again.append(Lane::Urgent, &drift(1000 + n, Severity::High)).unwrap();
        }
        assert_eq!(again.journal.pending(CursorName::Report), 0);
        again.append(Lane::Urgent, &drift(2000, Severity::High)).unwrap();
        assert_eq!(again.journal.pending(CursorName::Report), 1);
    }

    #[test]
    fn arguments_too_large_for_a_record_go_and_say_so() {
        let folder = TempDir::new().unwrap();
        let sink = sink(folder.path());
        let mut event = drift(1, Severity::High);
        // Control characters take six bytes each in JSON.
        event.detail.process_mut().unwrap().args = vec!["\u{1}".repeat(16 * 1024)];
        sink.append(Lane::Urgent, &event).unwrap();
        let kept = events(&sink).remove(0);
        let EventDetail::Drift { process, .. } = kept.detail else { panic!("not drift") };
        assert!(process.args.is_empty() && process.args_truncated);
    }

    #[test]
    fn what_never_fits_is_refused_and_told_as_lost() {
        let folder = TempDir::new().unwrap();
        let sink = sink(folder.path());
        let mut event = drift(1, Severity::High);
        event.container.image = Some("x".repeat(70 * 1024));
        assert!(matches!(sink.append(Lane::Urgent, &event), Err(StoreError::Refused(_))));
        let batch = sink.journal.begin(CursorName::Report, BOUND).unwrap().unwrap();
        assert_eq!(batch.losses.values().map(|window| window.count).sum::<u64>(), 1);
        event.event_id = event_id(2);
        event.event_id.0.push('0');
        assert!(matches!(sink.append(Lane::Urgent, &event), Err(StoreError::Refused(_))));
    }
}
