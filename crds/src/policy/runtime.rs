//! What is observed of running containers.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is observed of running containers. Absent: this policy observes nothing.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeSpec {
    /// Executed content that is not content of the image.
    #[serde(default)]
    pub drift: DriftSpec,
    /// Programs of the image that must not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessesSpec>,
    /// Loaded objects that are not in the image, and what a dynamic loader is told to run; `drift.allow` holds for them
    /// too. Where a policy asks for it, it costs something at each exec of the whole node.
    #[serde(default)]
    pub libraries: Libraries,
    /// Whether running images still satisfy `admission`. Absent: only admission looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posture: Option<PostureSpec>,
}

/// Executed content that is not content of the image.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftSpec {
    /// Off, Audit (record) or Kill. Short of mode Enforce a Kill is recorded as "would have been killed".
    #[serde(default)]
    pub action: DriftAction,
    /// Classes that Kill ends before their first instruction.
    #[serde(default = "DriftSpec::default_kill")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub kill: Vec<KillClass>,
    /// Absolute paths in the container's root, or mount destinations, whose programs are allowed; globs are understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255), pattern("^/")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<String>,
}

impl DriftSpec {
    fn default_kill() -> Vec<KillClass> {
        vec![KillClass::New, KillClass::Unnamed]
    }
}

impl Default for DriftSpec {
    fn default() -> Self {
        Self { action: DriftAction::default(), kill: Self::default_kill(), allow: Vec::new() }
    }
}

/// What is done about drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DriftAction {
    /// Nothing is observed.
    Off,
    /// Recorded.
    #[default]
    Audit,
    /// Recorded and killed.
    Kill,
}

/// A class of drift that may be killed; `Unknown` never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum KillClass {
    /// New file in the container's upper layer.
    New,
    /// Changed or copied-up file of the image; killed late, when the hash says that it was changed.
    CopiedUp,
    /// File on another superblock.
    Foreign,
    /// Memory file or deleted file.
    Unnamed,
}

/// Programs of the image that must not run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.deny) > 0 || !has(self.allow) || size(self.allow) == 0")
    .message("processes.allow names exceptions to processes.deny: set deny").field_path(".deny"))]
pub struct ProcessesSpec {
    /// Globs on the path in the container's root.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255), pattern("^[/*]")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub deny: Vec<String>,
    /// Exceptions to `deny`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255), pattern("^[/*]")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<String>,
}

/// Loaded objects that are not in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Libraries {
    /// Not looked at.
    #[default]
    Off,
    /// Recorded.
    Audit,
}

/// Whether running images still satisfy `admission`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.interval) >= duration('10s')")
    .message("runtime.posture.interval is shorter than a registry should be asked: set 10s or more").field_path(".interval"))]
pub struct PostureSpec {
    /// Longest time between two looks at the same image, such as `1h`; at least `10s`. A changed policy, key or exception
    /// is looked at at once.
    #[schemars(length(max = 32), pattern(r"^([0-9]+(h|m|s))+$"))]
    pub interval: String,
}
