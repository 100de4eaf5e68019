//! `ZastavaPolicy`: what may start, and what may run.

pub mod admission;
pub mod exception;
pub mod runtime;
pub mod status;
pub mod supported;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use self::{
    admission::{
        AdmissionSpec, Attestation, Authority, Digests, FailurePolicy, Key, KeyRef, Keyless, OnUnavailable, Sbom,
        SbomFormat, Signature, TransparencyLog, TrustRootRef, Unmatched, VerdictSpec,
    },
    exception::{ExceptionMatch, PolicyException},
    runtime::{DriftAction, DriftSpec, KillClass, Libraries, PostureSpec, ProcessesSpec, RuntimeSpec},
    status::{CoverageStatus, FindingTotals, MatchedStatus, ObserverStatus, WebhookStatus, ZastavaPolicyStatus},
};

/// What may start, and what may run, in the pods it matches. One policy speaks for both ends: admission verifies an
/// image before it starts, the observer watches what its containers really execute.
#[allow(clippy::duplicated_attributes, reason = "printer columns repeat their keys")]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zastava.stella-ops.org",
    version = "v1alpha1",
    kind = "ZastavaPolicy",
    plural = "zastavapolicies",
    shortname = "zp",
    category = "zastava",
    status = "ZastavaPolicyStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.mode",
    doc = "A ZastavaPolicy says which images may start in the pods it matches, and what their containers may execute.",
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Audit records, Warn tells, Enforce refuses and kills"
    ),
    printcolumn(
        name = "Observer",
        type_ = "string",
        json_path = ".status.observer.summary",
        description = "Nodes that observe / nodes that run matched pods"
    ),
    printcolumn(
        name = "Webhook",
        type_ = "string",
        json_path = ".status.webhook.summary",
        description = "Webhook replicas that are ready / desired"
    ),
    printcolumn(
        name = "Violating",
        type_ = "integer",
        json_path = ".status.matched.violating",
        description = "Matched pods with an open finding"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "The policy is in force everywhere it should be"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1,
        description = "Why it is or is not ready"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1,
        description = "The same in words"
    ),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.admission) || has(self.runtime)")
        .message("a policy needs admission, runtime or both: set spec.admission or spec.runtime")
        .field_path(".admission"),
    validation = Rule::new("self.mode != 'Enforce' || !has(self.admission) || !has(self.admission.digests) || self.admission.digests != 'Off'")
        .message("mode Enforce needs pinned images: set spec.admission.digests to Resolve or Require, or spec.mode to Warn or Audit")
        .field_path(".admission.digests"),
    validation = Rule::new("!has(self.scan) || !has(self.scan.on) || !('Drift' in self.scan.on) || has(self.runtime)")
        .message("spec.scan.on names Drift, but nothing observes drift: set spec.runtime")
        .field_path(".scan.on"),
    validation = Rule::new("!has(self.runtime) || !has(self.runtime.posture) || has(self.admission)")
        .message("spec.runtime.posture holds what runs against spec.admission, which is absent: set spec.admission")
        .field_path(".runtime.posture")
)]
pub struct ZastavaPolicySpec {
    /// Which pods and images this policy speaks for. Empty: every pod outside the exempt namespaces.
    #[serde(default, rename = "match")]
    pub match_: MatchSpec,
    /// Audit records only. Warn also tells the person who applies. Enforce refuses images and kills drift.
    #[serde(default)]
    pub mode: Mode,
    /// Break-glass: true takes the policy out of force at once, at both ends, without deleting it.
    #[serde(default)]
    pub suspend: bool,
    /// What an image must prove before it may start. Absent: this policy asks nothing at admission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionSpec>,
    /// What is observed of running containers. Absent: this policy observes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeSpec>,
    /// Which findings ask for a scan. Absent: drift does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanSpec>,
    /// How long findings are kept, and how many.
    #[serde(default)]
    pub findings: FindingsSpec,
    /// Known and accepted deviations. They act within this policy only, and stop counting by themselves when they expire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub exceptions: Vec<PolicyException>,
}

impl ZastavaPolicySpec {
    /// Whether drift is killed: short of mode Enforce it is recorded as "would have been killed".
    pub fn kills(&self) -> bool {
        let kill = |runtime: &RuntimeSpec| runtime.drift.action == DriftAction::Kill;
        self.mode == Mode::Enforce && self.runtime.as_ref().is_some_and(kill)
    }
}

/// Which pods and images a policy speaks for; all given parts must match.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchSpec {
    /// On the labels of the namespace. Absent: every namespace that is not exempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// On the labels of the pod at its creation. This is no security boundary: whoever creates a pod chooses its labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Globs on the canonical `host/repository` of an image, such as `registry.example/prod/**`, never on its tag.
    /// `*` stays within one path segment, `**` does not. Empty: every image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255), pattern(r"^[a-z0-9*?\[\]{},!._:/-]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub images: Vec<String>,
}

/// How far a policy goes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    strum::IntoStaticStr,
    strum::Display,
)]
pub enum Mode {
    /// Record what would happen, change nothing.
    #[default]
    Audit,
    /// Audit, and warnings to whoever applies a workload.
    Warn,
    /// Refuse images, kill drift.
    Enforce,
}

/// Which findings ask for a scan. Absent: drift does.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanSpec {
    /// Types of findings that ask for a scan.
    #[serde(default = "ScanSpec::default_on")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub on: Vec<ScanTrigger>,
    /// Least time between two scans of the same image and delta, such as `10m`.
    #[serde(default = "ScanSpec::default_cooldown")]
    #[schemars(length(max = 32), pattern(r"^([0-9]+(h|m|s))+$"))]
    pub cooldown: String,
}

impl ScanSpec {
    fn default_on() -> Vec<ScanTrigger> {
        vec![ScanTrigger::Drift]
    }

    fn default_cooldown() -> String {
        "10m".to_owned()
    }
}

impl Default for ScanSpec {
    fn default() -> Self {
        Self { on: Self::default_on(), cooldown: Self::default_cooldown() }
    }
}

/// A type of finding that can ask for a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ScanTrigger {
    /// Executed content that is not content of the image.
    Drift,
    /// A running image no longer satisfies the policy.
    Posture,
}

/// How long findings are kept, and how many.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingsSpec {
    /// A finding that was not seen for this long is removed, such as `168h`.
    #[serde(default = "FindingsSpec::default_ttl")]
    #[schemars(length(max = 32), pattern(r"^([0-9]+(h|m|s))+$"))]
    pub ttl: String,
    /// Findings in one namespace at most; more are counted and not kept.
    #[serde(default = "FindingsSpec::default_max")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_per_namespace: u32,
}

impl FindingsSpec {
    fn default_ttl() -> String {
        "168h".to_owned()
    }

    fn default_max() -> u32 {
        200
    }
}

impl Default for FindingsSpec {
    fn default() -> Self {
        Self { ttl: Self::default_ttl(), max_per_namespace: Self::default_max() }
    }
}
