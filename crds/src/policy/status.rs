//! What Zastava says about a policy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What Zastava says about a policy (kstatus: a policy nobody has looked at yet has observedGeneration -1).
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct ZastavaPolicyStatus {
    /// Generation of the spec that the rest speaks about.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// Ready, Reconciling, Stalled, Degraded, ObserverAvailable, WebhookAvailable, PostureSatisfied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Hash of the spec in force: events and decisions carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub policy_hash: Option<String>,
    /// The observers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observer: Option<ObserverStatus>,
    /// The webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookStatus>,
    /// Pods the policy speaks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<MatchedStatus>,
    /// Open findings by severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<FindingTotals>,
    /// When counters were last written, at most once in 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_at: Option<Time>,
}

fn unobserved() -> i64 {
    -1
}

impl Default for ZastavaPolicyStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            policy_hash: None,
            observer: None,
            webhook: None,
            matched: None,
            findings: None,
            counted_at: None,
        }
    }
}

/// The observers of the nodes that run matched pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObserverStatus {
    /// `observing/desired`, for the table.
    #[schemars(length(max = 32))]
    pub summary: String,
    /// Nodes that should observe.
    pub desired: u32,
    /// Nodes that do.
    pub observing: u32,
    /// Nodes on which Kill is armed in the kernel.
    #[serde(default)]
    pub killing: u32,
    /// Pods by coverage.
    #[serde(default)]
    pub coverage: CoverageStatus,
}

/// Matched pods by coverage.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoverageStatus {
    /// Every exec is judged.
    pub full: u32,
    /// Some are.
    pub partial: u32,
    /// None is.
    pub none: u32,
    /// Reasons for what is missing, with how many pods or nodes, such as `NoBTF: 1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub reasons: Vec<String>,
}

/// The webhook's replicas.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookStatus {
    /// `ready/desired`, for the table.
    #[schemars(length(max = 32))]
    pub summary: String,
    /// Replicas that should run.
    pub desired: u32,
    /// Replicas that serve the published certificate with synced caches.
    pub ready: u32,
}

/// Pods the policy speaks for.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchedStatus {
    /// How many.
    pub pods: u32,
    /// Of these, with an open finding.
    pub violating: u32,
}

/// Open findings by severity.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingTotals {
    /// Critical.
    pub critical: u32,
    /// High.
    pub high: u32,
    /// Medium.
    pub medium: u32,
    /// Low.
    pub low: u32,
    /// Info.
    pub info: u32,
}
