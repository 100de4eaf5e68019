//! The kinds that carry images, and where each of them keeps its pod.

use kube::core::GroupVersionKind;

/// A kind that carries images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display, strum::EnumIter)]
pub enum WorkloadKind {
    /// The gate: what a pod names is what runs.
    Pod,
    /// apps/v1.
    Deployment,
    /// apps/v1.
    ReplicaSet,
    /// v1.
    ReplicationController,
    /// apps/v1.
    StatefulSet,
    /// apps/v1.
    DaemonSet,
    /// batch/v1.
    Job,
    /// batch/v1.
    CronJob,
}

impl WorkloadKind {
    /// The kind of a request, whatever its version: the webhook's rules register v1 and the API server converts to it.
    pub fn of(gvk: &GroupVersionKind) -> Option<Self> {
        match (gvk.group.as_str(), gvk.kind.as_str()) {
            ("", "Pod") => Some(Self::Pod),
            ("", "ReplicationController") => Some(Self::ReplicationController),
            ("apps", "Deployment") => Some(Self::Deployment),
            ("apps", "ReplicaSet") => Some(Self::ReplicaSet),
            ("apps", "StatefulSet") => Some(Self::StatefulSet),
            ("apps", "DaemonSet") => Some(Self::DaemonSet),
            ("batch", "Job") => Some(Self::Job),
            ("batch", "CronJob") => Some(Self::CronJob),
            _ => None,
        }
    }

    /// JSON pointer to what holds the pod's `metadata` and `spec`.
    pub fn pod_at(self) -> &'static str {
        match self {
            Self::Pod => "",
            Self::CronJob => "/spec/jobTemplate/spec/template",
            _ => "/spec/template",
        }
    }

    /// A template: pods will be made of it, and each of them is judged when it comes.
    pub fn is_template(self) -> bool {
        self != Self::Pod
    }
}
