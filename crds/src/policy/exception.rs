//! Known and accepted deviations from a policy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A known and accepted deviation: it has a reason, and an end.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyException {
    /// Name, as records of its use give it.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Why it is accepted, and by whom.
    #[schemars(length(min = 1, max = 512))]
    pub reason: String,
    /// When it stops counting.
    pub expires: Time,
    /// What it is about.
    #[serde(rename = "match")]
    pub match_: ExceptionMatch,
}

/// What an exception is about; all given parts must match, and at least one is given.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.namespaces) || has(self.podSelector) || has(self.images) || has(self.paths)")
    .message("an exception for everything is spec.suspend: set namespaces, podSelector, images or paths"))]
pub struct ExceptionMatch {
    /// Names of namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
    /// On the labels of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Globs on `host/repository`, or digests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 330)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub images: Vec<String>,
    /// Globs on executed paths; the exception then speaks for the runtime only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255), pattern("^/")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub paths: Vec<String>,
}
