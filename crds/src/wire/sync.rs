//! Sync: the observer's one idle connection. It tells its state and holds its rules up to date.
//!
//! `POST /v1/sync` with [`NodeStatus`] waits up to [`SYNC_HOLD_SECONDS`] and answers 200 [`RuleSet`] as soon as the rules
//! differ from `rulesHash`, else 204. An observer whose state changes drops the request and sends a new one. A node
//! without a request for [`NODE_SILENT_SECONDS`] is not observing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{event::PolicyRef, report::BatchMark};
use crate::policy::{DriftSpec, LabelSelector, Libraries, Mode, ProcessesSpec};

/// Path of the sync endpoint.
pub const SYNC_PATH: &str = "/v1/sync";
/// Seconds that the intake holds a sync open.
pub const SYNC_HOLD_SECONDS: u64 = 10;
/// Seconds without a sync after which a node counts as not observing.
pub const NODE_SILENT_SECONDS: u64 = 15;

/// State of one observer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Node's name.
    pub node: String,
    /// Hash of the rule set in force, empty before the first.
    pub rules_hash: String,
    /// Version of the observer.
    pub version: String,
    /// It sees its own self-test exec (necessary, not sufficient).
    pub observing: bool,
    /// Reasons for anything that is missing on the node.
    #[serde(default)]
    pub reasons: Vec<CoverageReason>,
    /// Pods matched by at least one policy, by coverage.
    pub coverage: Coverage,
    /// Pods not fully covered, at most 100.
    #[serde(default)]
    pub uncovered: Vec<UncoveredPod>,
    /// Counters since the probe was attached.
    pub accounting: Accounting,
    /// Kill is armed in the kernel.
    pub kill_armed: bool,
    /// This observer holds the capability to end a process late. One that is about to be replaced may not hold it yet.
    #[serde(default)]
    pub may_kill: bool,
    /// Records waiting in the journal.
    pub journal_pending: u64,
    /// The last batch whose receipt has arrived: it is never sent again, so its marks may go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<BatchMark>,
}

/// Pods by coverage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Every exec of the pod is judged.
    pub full: u32,
    /// Some containers are not.
    pub partial: u32,
    /// None is.
    pub none: u32,
}

/// A matched pod that is not fully covered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UncoveredPod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub pod: String,
    /// Why.
    pub reason: CoverageReason,
}

/// Why a pod or a node is not fully covered.
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
pub enum CoverageReason {
    /// The kernel has no BTF.
    NoBTF,
    /// The kernel lacks a needed feature or refused the probe.
    ProbeRefused,
    /// Kata, gVisor: its execs are not this kernel's.
    Sandboxed,
    /// The container's root is no overlay.
    NonOverlayRoot,
    /// The probe is no longer attached, or the self-test was not seen.
    ProbeDetached,
    /// A policy asks for libraries, and the kernel refuses to tell what is loaded.
    LibrariesRefused,
    /// The container runtime's socket does not answer.
    RuntimeGone,
    /// The journal can't be written.
    JournalStuck,
    /// The container started before its rules were known and has not executed since.
    Unarmed,
    /// No observer speaks for the node.
    NotObserved,
    /// The observer may not end processes yet: one that may is on its way.
    MayNotKill,
}

/// executed = stored + filtered + foreign + pending + dropped, true at every rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accounting {
    /// Execs the probe was called for.
    pub executed: u64,
    /// Written to the journal.
    pub stored: u64,
    /// Of these, told together with others in one event.
    #[serde(default)]
    pub combined: u64,
    /// Judged and of no interest.
    pub filtered: u64,
    /// Not of a container of this node.
    pub foreign: u64,
    /// On their way.
    pub pending: u64,
    /// By [`super::event::LossReason`].
    #[serde(default)]
    pub dropped: BTreeMap<String, u64>,
}

/// All rules of the cluster that an observer may need, and the labels to apply them with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSet {
    /// Canonical hash of the rest.
    pub hash: String,
    /// Policies with a `runtime` part that are neither suspended nor stalled, sorted by name.
    pub policies: Vec<RuntimeRules>,
    /// Labels of every namespace that is not exempt.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// The runtime part of one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeRules {
    /// Which policy.
    pub policy: PolicyRef,
    /// Audit and Warn record what Enforce would do.
    pub mode: Mode,
    /// On the namespace's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// On the pod's labels at its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Globs on `host/repository`; empty means every image.
    #[serde(default)]
    pub images: Vec<String>,
    /// Drift.
    pub drift: DriftSpec,
    /// Denied processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessesSpec>,
    /// Library stream.
    pub libraries: Libraries,
}
