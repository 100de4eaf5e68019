//! A batch as it goes over the wire. The same batch has the same bytes, whichever process encodes it.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zastava_crds::wire::{
    event::{ContainerRef, EVENT_SCHEMA, EventDetail, EventId, LossReason, RuntimeEvent, Severity},
    report::{BatchMark, MAX_BATCH_BYTES, MAX_RECORDS, Report},
};

use crate::journal::{Batch, BatchBound, LossWindow};

/// What makes a [`Report`] of an event's JSON.
const TAG: &str = "{\"type\":\"runtime\",";
/// Room for the mark and one record for each reason of loss.
const LOSS_RECORDS: usize = 16;
const ENVELOPE_BYTES: usize = 16 * 1024;

/// Bounds of a batch's events.
pub const BOUND: BatchBound = BatchBound {
    records: MAX_RECORDS - LOSS_RECORDS,
    bytes: MAX_BATCH_BYTES - ENVELOPE_BYTES,
    overhead: TAG.len() + 1,
};

/// The JSON of a `ReportBatch`. None if a mark or a loss has none.
pub fn body(mark: &BatchMark, batch: &Batch) -> Option<Bytes> {
    let events: usize = batch.payloads.iter().map(|payload| payload.len() + BOUND.overhead).sum();
    let mut out = Vec::with_capacity(events + ENVELOPE_BYTES);
    out.extend_from_slice(b"{\"mark\":");
    serde_json::to_writer(&mut out, mark).ok()?;
    out.extend_from_slice(b",\"records\":[");
    let mut first = true;
    let mut comma = |out: &mut Vec<u8>| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
    };
    // An event's JSON is an object with members: its brace makes room for the tag.
    for fields in batch.payloads.iter().filter_map(|payload| payload.strip_prefix('{')) {
        comma(&mut out);
        out.extend_from_slice(TAG.as_bytes());
        out.extend_from_slice(fields.as_bytes());
    }
    for (reason, window) in &batch.losses {
        comma(&mut out);
        serde_json::to_writer(&mut out, &lost(mark, &batch.boot_id, reason.0, window)).ok()?;
    }
    out.extend_from_slice(b"]}");
    Some(out.into())
}

/// A loss as an event: about the node, so no container has a part in it.
fn lost(mark: &BatchMark, boot_id: &str, reason: LossReason, window: &LossWindow) -> Report {
    let name: &str = reason.into();
    let id = Sha256::digest(format!("{}\n{}\n{name}", mark.reporter, mark.seq));
    let none = String::new;
    Report::Runtime(RuntimeEvent {
        schema: EVENT_SCHEMA.to_owned(),
        event_id: EventId(hex::encode(&id[..16])),
        observed_at: window.until,
        boot_id: boot_id.to_owned(),
        monotonic_ns: 0,
        container: ContainerRef {
            namespace: none(),
            pod: none(),
            pod_uid: none(),
            container: none(),
            container_id: none(),
            image: None,
            digests: Vec::new(),
        },
        severity: Severity::High,
        policies: Vec::new(),
        already_running: false,
        combined: None,
        detail: EventDetail::Lost { reason, count: window.count, from: window.from, until: window.until },
    })
}
