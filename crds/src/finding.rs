//! `RuntimeFinding`: the aggregate a person looks at. Its spec is its immutable key, all that is observed is status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    digest::{ImageDigest, Sha256Digest},
    wire::{
        event::{DriftClass, Severity},
        report::{BatchMark, WorkloadRef},
    },
};

/// What was found about a workload: one object for one thing, however often it happens.
#[allow(clippy::duplicated_attributes, reason = "printer columns repeat their keys")]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zastava.stella-ops.org",
    version = "v1alpha1",
    kind = "RuntimeFinding",
    namespaced,
    shortname = "rf",
    category = "zastava",
    status = "RuntimeFindingStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.type",
    selectable = ".spec.workload.name",
    doc = "A RuntimeFinding is one thing found about a workload: drift, a denied process, or an image that admission refused.",
    printcolumn(name = "Severity", type_ = "string", json_path = ".status.severity"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.workload.name"),
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subject"),
    printcolumn(name = "Count", type_ = "integer", json_path = ".status.count"),
    printcolumn(name = "Scan", type_ = "string", json_path = ".status.scan.summary"),
    printcolumn(name = "Last-Seen", type_ = "date", json_path = ".status.lastSeen"),
    printcolumn(name = "Resolved", type_ = "date", json_path = ".status.resolved.at"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
    printcolumn(name = "Policy", type_ = "string", json_path = ".status.policies", priority = 1),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodes", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.workload == oldSelf.workload && self.container == oldSelf.container && self.type == oldSelf.type && self.subject == oldSelf.subject")
    .message("the key of a finding never changes: only spec.acknowledgement may be edited"))]
pub struct RuntimeFindingSpec {
    /// The workload it is about, in this namespace.
    pub workload: WorkloadRef,
    /// The container.
    #[schemars(length(max = 63))]
    pub container: String,
    /// What kind of thing was found.
    #[serde(rename = "type")]
    pub type_: FindingType,
    /// What it is about: an executed path, or an image and the requirement it does not meet.
    #[schemars(length(max = 1024))]
    pub subject: String,
    /// A person's word that this is known. The only part that people edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<Acknowledgement>,
}

/// A person's word that a finding is known. The only part that people edit.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement {
    /// Who says so.
    #[schemars(length(min = 1, max = 253))]
    pub by: String,
    /// Why it is acceptable, or what is being done.
    #[schemars(length(min = 1, max = 512))]
    pub reason: String,
}

/// What kind of thing was found.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::Display,
)]
pub enum FindingType {
    /// Executed content that is not content of the image.
    Drift,
    /// A loaded object that is not content of the image.
    Library,
    /// A program of the image ran that the policy denies.
    DeniedProcess,
    /// Admission refused an image, or would have.
    Admission,
    /// A running image no longer satisfies the policy.
    Posture,
    /// Admission let an image in by an exception of the policy.
    Exception,
}

/// All that was observed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeFindingStatus {
    /// Highest severity seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How often it was seen: exact unless `approximate`.
    #[serde(default)]
    pub count: u64,
    /// More than 64 nodes had a batch in flight on this finding at once; the count may hold a few twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approximate: bool,
    /// First seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Time>,
    /// Last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// Names of the policies it was found by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub policies: Vec<String>,
    /// Reference of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// Digests of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub digests: Vec<ImageDigest>,
    /// A few of the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pods: Vec<String>,
    /// A few of the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub nodes: Vec<String>,
    /// The latest evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// The pod was never seen by the intake: attribution is the node's word alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
    /// That its cause is gone. Absent: it is open. Findings of type Posture are resolved by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolution>,
    /// The scan that the finding asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanStatus>,
    /// Batches in flight whose counts are already in `count`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reporter".into()]))]
    pub marks: Vec<StoredMark>,
}

/// A [`BatchMark`] as it is stored.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredMark {
    /// Who reported.
    #[schemars(length(max = 128))]
    pub reporter: String,
    /// Which batch.
    pub seq: u64,
}

impl From<&BatchMark> for StoredMark {
    fn from(mark: &BatchMark) -> Self {
        Self { reporter: mark.reporter.clone(), seq: mark.seq }
    }
}

/// That the cause of a finding is gone.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolution {
    /// Since when.
    pub at: Time,
    /// What became of it.
    pub reason: ResolutionReason,
    /// The same in words.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// What became of the cause of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum ResolutionReason {
    /// The image satisfies the policy again.
    Satisfied,
    /// An exception of the policy covers it.
    Excepted,
    /// No pod of the workload runs the image any more.
    NotRunning,
    /// The policy is gone or suspended, does not speak for the image any more, or asks for no posture.
    NotAsked,
}

/// The latest evidence of a finding.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What was seen, in one line.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Id of the event or review it is from.
    #[schemars(length(max = 128))]
    pub event_id: String,
    /// Class of drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<DriftClass>,
    /// SHA-256 of the executed file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// `before`, `late` or `no`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub killed: Option<String>,
    /// A kill that mode or action held back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub would_kill: bool,
    /// Command line, bounded and redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub command: Option<String>,
    /// Parent's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub parent: Option<String>,
    /// User id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// The scan that a finding asked for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanStatus {
    /// Verdict, or phase while there is none: for the table.
    #[schemars(length(max = 32))]
    pub summary: String,
    /// Where the scan stands.
    pub phase: ScanPhase,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<ScanVerdict>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// Component of the SBOM that the file belongs to, as a purl or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub component: Option<String>,
    /// The content that was scanned; other content asks for a new scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// When it was asked for.
    pub requested_at: Time,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
}

/// Where a scan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum ScanPhase {
    /// Asked for, or waiting for its next try.
    Pending,
    /// Done.
    Done,
    /// Given up.
    Failed,
}

/// What a scan says of the executed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum ScanVerdict {
    /// The image's SBOM holds exactly this content.
    Known,
    /// The SBOM holds this path with other content.
    Modified,
    /// The SBOM holds neither.
    Unknown,
}
