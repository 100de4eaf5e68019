//! From a record to the finding it belongs to: what the reporter may say, and about which pod.

use std::future::Future;

use jiff::Timestamp;
use zastava_crds::{
    finding::{Evidence, FindingType},
    wire::{
        event::{ContainerRef, EVENT_SCHEMA, EventDetail, ExecutedFile, Killed, MAX_COMBINED, Process, RuntimeEvent},
        report::{AdmissionOutcome, AdmissionRecord, DECISION_SCHEMA, RefusedReason, Report, WorkloadRef},
    },
};

use super::{
    key::{FindingKey, Standing, cut},
    sighting::Sighting,
};
use crate::pods::Found;

/// Longest path, as the kernel has it.
const MAX_PATH: usize = 4096;
const MAX_POLICIES: usize = 16;
const MAX_ARGS: usize = 32;

/// Who reports, as its token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The observer of a node.
    Observer {
        /// Name of the node that the token is bound to.
        node: String,
    },
    /// A webhook.
    Webhook,
}

/// Pods could not be looked up: the batch is tried again.
#[derive(Debug, thiserror::Error)]
#[error("pods can't be looked up: {0}")]
pub struct PodsUnavailable(pub String);

/// Where a pod is looked up.
pub trait PodSource: Send + Sync {
    /// What is known of this pod, told of by `node`; [`Found::Never`] only after the API server has said so.
    fn find(
        &self,
        node: &str,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> impl Future<Output = Result<Found, PodsUnavailable>> + Send;

    /// The reporter is a pod (`pod:<uid>`) that is gone for certain: none of its batches will come again.
    fn is_over(&self, reporter: &str) -> bool;
}

/// What a record comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// A sighting of a finding.
    Seen(FindingKey, Box<Sighting>),
    /// A loss: counted, about no workload.
    Lost { reason: &'static str, count: u64 },
    /// A container is noisy, or is no longer: known, and no finding.
    Noise { started: bool },
    /// Refused for good.
    Refused(RefusedReason),
}

/// Judges one record.
pub(super) async fn attribute<P: PodSource>(
    report: Report,
    sender: &Sender,
    pods: &P,
    now: Timestamp,
) -> Result<Outcome, PodsUnavailable> {
    match (report, sender) {
        (Report::Runtime(event), Sender::Observer { node }) => runtime(event, node, pods, now).await,
        (Report::Admission(record), Sender::Webhook) => Ok(admission(record, now)),
        _ => Ok(Outcome::Refused(RefusedReason::WrongType)),
    }
}

async fn runtime<P: PodSource>(
    event: RuntimeEvent,
    node: &str,
    pods: &P,
    now: Timestamp,
) -> Result<Outcome, PodsUnavailable> {
    if let EventDetail::Lost { reason, count, .. } = event.detail {
        return Ok(Outcome::Lost { reason: reason.into(), count });
    }
    if !within_bounds(&event) {
        return Ok(Outcome::Refused(RefusedReason::OutOfBounds));
    }
    if let EventDetail::Throttling { started, .. } = event.detail {
        return Ok(Outcome::Noise { started });
    }
    let container = &event.container;
    let (key, pod) = match pods.find(node, &container.namespace, &container.pod, &container.pod_uid).await? {
        // What is known of the pod counts, not what the node says of it.
        Found::Live(pod) | Found::Gone(pod) if pod.node.as_deref() == Some(node) => {
            let key = |type_, subject| FindingKey {
                namespace: pod.namespace.clone(),
                workload: pod.workload.clone(),
                container: container.container.clone(),
                type_,
                subject,
                standing: Standing::Attributed,
            };
            (keyed(&event, key), pod.name.clone())
        }
        Found::Live(_) | Found::Gone(_) => return Ok(Outcome::Refused(RefusedReason::ForeignPod)),
        Found::Never => (keyed(&event, |type_, subject| unseen(container, type_, subject)), container.pod.clone()),
    };
    let Some(key) = key else { return Ok(Outcome::Refused(RefusedReason::OutOfBounds)) };
    let unverified = key.standing == Standing::NeverSeen;
    let at = event.observed_at.min(now);
    let evidence = evidence(&event);
    let combined = event.combined;
    let sighting = Sighting {
        count: combined.as_ref().map_or(1, |combined| combined.count),
        severity: event.severity,
        first: at,
        last: combined.map_or(at, |combined| combined.until.min(now).max(at)),
        policies: event.policies.into_iter().map(|policy| policy.name).collect(),
        pods: vec![pod],
        nodes: vec![node.to_owned()],
        image: event.container.image.map(|image| cut(&image, 512)),
        digests: event.container.digests,
        evidence,
        unverified,
    };
    Ok(Outcome::Seen(key, Box::new(sighting)))
}

fn keyed(event: &RuntimeEvent, key: impl Fn(FindingType, String) -> FindingKey) -> Option<FindingKey> {
    match &event.detail {
        EventDetail::Drift { file, .. } => Some(key(FindingType::Drift, printable(&file.path))),
        EventDetail::Library { file, .. } => Some(key(FindingType::Library, printable(&file.path))),
        EventDetail::DeniedProcess { file, .. } => Some(key(FindingType::DeniedProcess, printable(&file.path))),
        EventDetail::Throttling { .. } | EventDetail::Lost { .. } => None,
    }
}

fn unseen(container: &ContainerRef, type_: FindingType, subject: String) -> FindingKey {
    FindingKey {
        namespace: container.namespace.clone(),
        workload: WorkloadRef { kind: "Pod".to_owned(), name: container.pod.clone() },
        container: container.container.clone(),
        type_,
        subject,
        standing: Standing::NeverSeen,
    }
}

fn within_bounds(event: &RuntimeEvent) -> bool {
    let container = &event.container;
    let (process, file) = match &event.detail {
        EventDetail::Drift { process, file, .. }
        | EventDetail::Library { process, file, .. }
        | EventDetail::DeniedProcess { process, file, .. } => (process, file),
        EventDetail::Throttling { rule, .. } => return (1..=MAX_PATH).contains(&rule.len()),
        EventDetail::Lost { .. } => return true,
    };
    event.schema == EVENT_SCHEMA
        && is_word(&event.event_id.0, 128)
        && is_word(&container.namespace, 63)
        && is_word(&container.pod, 253)
        && is_word(&container.pod_uid, 128)
        && is_word(&container.container, 63)
        && container.digests.len() <= 16
        && (1..=MAX_POLICIES).contains(&event.policies.len())
        && event.policies.iter().all(|policy| is_word(&policy.name, 253))
        && process.args.len() <= MAX_ARGS
        && (1..=MAX_PATH).contains(&file.path.len())
        && event.combined.as_ref().is_none_or(|combined| (1..=MAX_COMBINED).contains(&combined.count))
}

fn evidence(event: &RuntimeEvent) -> Evidence {
    let said = |message: String, process: &Process, file: &ExecutedFile| Evidence {
        message: cut(&printable(&message), 1024),
        event_id: event.event_id.0.clone(),
        sha256: file.sha256.clone(),
        command: Some(cut(&printable(&process.args.join(" ")), 1024)).filter(|command| !command.is_empty()),
        parent: process.parent.as_deref().map(|parent| cut(&printable(parent), 64)),
        uid: Some(process.uid),
        ..Evidence::default()
    };
    match &event.detail {
        EventDetail::Drift { class, process, file, killed, would_kill }
        | EventDetail::Library { class, process, file, killed, would_kill, .. } => {
            let class_name: &'static str = class.into();
            let done = match (killed, would_kill) {
                (Killed::Before, _) => "killed before its first instruction",
                (Killed::Late, _) => "killed after it had started",
                (Killed::No, true) => "would have been killed",
                (Killed::No, false) => "not killed",
            };
            let what = match &event.detail {
                EventDetail::Library { payload: true, .. } => "was run by a dynamic loader",
                EventDetail::Library { .. } => "was loaded",
                _ if event.already_running => "was already running when the observer came",
                _ => "ran",
            };
            let unread = file.unread.as_deref().map(|why| format!("; content not read: {why}")).unwrap_or_default();
            let message = format!("{class_name}: {} {what} and is not content of the image; {done}{unread}", file.path);
            Evidence {
                class: Some(*class),
                killed: Some(killed.to_string()),
                would_kill: *would_kill,
                ..said(message, process, file)
            }
        }
        EventDetail::DeniedProcess { rule, process, file } => {
            said(format!("{} ran, which the rule {rule} denies", file.path), process, file)
        }
        EventDetail::Throttling { .. } | EventDetail::Lost { .. } => Evidence::default(),
    }
}

fn admission(record: AdmissionRecord, now: Timestamp) -> Outcome {
    let bounded = record.schema == DECISION_SCHEMA
        && is_word(&record.event_id, 128)
        && is_word(&record.namespace, 63)
        && is_word(&record.workload.kind, 63)
        && is_word(&record.workload.name, 253)
        && is_word(&record.container, 63)
        && is_word(&record.policy.name, 253)
        && (1..=1024).contains(&record.image.len())
        && (1..=512).contains(&record.requirement.len());
    if !bounded {
        return Outcome::Refused(RefusedReason::OutOfBounds);
    }
    let at = record.decided_at.min(now);
    let type_ = match record.outcome {
        AdmissionOutcome::Excepted => FindingType::Exception,
        AdmissionOutcome::Denied
        | AdmissionOutcome::Warned
        | AdmissionOutcome::WouldDeny
        | AdmissionOutcome::AdmittedUnverified => FindingType::Admission,
    };
    let key = FindingKey {
        namespace: record.namespace,
        workload: record.workload,
        container: record.container,
        type_,
        subject: printable(&format!("{}: {}", record.image, record.requirement)),
        standing: Standing::Attributed,
    };
    let sighting = Sighting {
        count: 1,
        severity: record.severity,
        first: at,
        last: at,
        policies: vec![record.policy.name],
        pods: Vec::new(),
        nodes: Vec::new(),
        image: Some(cut(&record.image, 512)),
        digests: record.digest.into_iter().collect(),
        evidence: Evidence {
            message: cut(&printable(&format!("{}: {}", record.outcome, record.message)), 1024),
            event_id: record.event_id,
            ..Evidence::default()
        },
        unverified: false,
    };
    Outcome::Seen(key, Box::new(sighting))
}

/// Not empty, bounded in bytes, no control characters.
fn is_word(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Without control characters: a path may hold what would rewrite a reader's terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests;
