//! Reports: what observer and webhook tell the intake, and its answers.
//!
//! `POST /v1/reports` with [`ReportBatch`] answers 200 [`BatchReceipt`], 400 or 401 or 403 with [`Problem`] for the whole
//! batch, or 503 with [`NotLeader`]. One batch is in flight per reporter; a batch is sent again, unchanged and under the
//! same mark, until it has its receipt.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::{PolicyRef, RuntimeEvent, Severity};
use crate::digest::ImageDigest;

/// Path of the reports endpoint.
pub const REPORTS_PATH: &str = "/v1/reports";
/// Records in one batch at most.
pub const MAX_RECORDS: usize = 500;
/// Bytes of one batch at most.
pub const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Audience of the token that reporters present.
pub const AUDIENCE: &str = "zastava-intake";

/// A batch and its mark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportBatch {
    /// Which batch of which reporter.
    pub mark: BatchMark,
    /// What it tells, at most [`MAX_RECORDS`].
    pub records: Vec<Report>,
}

/// Identity of a batch: the write that adds its counts to a finding records it, so a repeat adds nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchMark {
    /// `node:<UID of the node>` for an observer, `pod:<UID of the pod>` for a webhook: the intake holds it against the
    /// token. `/` and an id of the journal may follow, and must where `seq` can begin again: a journal that was lost, a
    /// container that restarted. Stable as long as the journal is. At most 128 bytes.
    pub reporter: String,
    /// Rises by one with each acknowledged batch, starting at 1. A batch with `seq` n confirms the receipt of n - 1.
    pub seq: u64,
}

/// One record of a batch.
#[allow(clippy::large_enum_variant, reason = "nearly all records are of the larger kind")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Report {
    /// From observers.
    Runtime(RuntimeEvent),
    /// From webhooks.
    Admission(AdmissionRecord),
}

/// The schema name of an admission record.
pub const DECISION_SCHEMA: &str = "zastava.admission.decision@v1";

/// An image that admission refused, would refuse, could not verify, or let in by an exception.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionRecord {
    /// [`DECISION_SCHEMA`].
    pub schema: String,
    /// UID of the AdmissionReview, `/`, and the container's name.
    pub event_id: String,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Namespace of the object.
    pub namespace: String,
    /// The object, by its outermost known owner.
    pub workload: WorkloadRef,
    /// Container of the image.
    pub container: String,
    /// Reference as it was written.
    pub image: String,
    /// Digest it resolved to, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<ImageDigest>,
    /// What was decided.
    pub outcome: AdmissionOutcome,
    /// The policy that said so.
    pub policy: PolicyRef,
    /// The requirement that was not met, such as `signatures[release]`, or the exception: `exceptions[known]`.
    pub requirement: String,
    /// What was found instead, at most 1 KiB.
    pub message: String,
    /// How much it matters.
    pub severity: Severity,
}

/// What admission decided.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr, strum::Display,
)]
pub enum AdmissionOutcome {
    /// Refused.
    Denied,
    /// Let in with a warning; Enforce would refuse it.
    Warned,
    /// Let in silently; Enforce would refuse it.
    WouldDeny,
    /// Let in although the verdict is unknown, because failurePolicy is Ignore.
    AdmittedUnverified,
    /// Let in by an exception of the policy.
    Excepted,
}

/// A workload: the outermost controller that is known, else the pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Kind, such as `Deployment`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// Every record of the batch is dealt with; the reporter moves on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchReceipt {
    /// The batch that was dealt with.
    pub mark: BatchMark,
    /// Records merged into findings.
    pub merged: u64,
    /// Records refused for good, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// Records refused for good: counted, never sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Why.
    pub reason: RefusedReason,
    /// How many.
    pub count: u64,
}

/// Why a record is refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "snake_case")]
pub enum RefusedReason {
    /// This service account may not send this type.
    WrongType,
    /// The pod is known and on another node.
    ForeignPod,
    /// A bound of the schema is exceeded.
    OutOfBounds,
    /// The namespace's cap on findings is reached.
    Capped,
}

/// Error body of the intake (problem+json, RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// One line, for a person.
    pub title: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// HTTP status.
    pub status: u16,
}

/// Body of a 503 from a replica that does not lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotLeader {
    /// Name of the leader's pod, if one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// `ip:port` of the leader's intake; its certificate still names the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}
