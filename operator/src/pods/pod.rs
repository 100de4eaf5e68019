//! What is kept of a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as Object};
use zastava_crds::wire::report::WorkloadRef;

use super::owner::Owners;

/// The kubelet writes it on the mirror of a static pod: the uid that the runtime knows the pod by.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// UID as the container runtime tells it.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Node, once it is bound to one.
    pub node: Option<String>,
    /// Labels as they are now.
    pub labels: BTreeMap<String, String>,
    /// The outermost controller that is known, else the pod.
    pub workload: WorkloadRef,
    /// Containers of all three kinds.
    pub containers: Vec<PodContainer>,
    /// It ended, or no container can start any more.
    pub finished: bool,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodContainer {
    /// Name.
    pub name: String,
    /// Reference in the pod's spec.
    pub image: String,
    /// `imageID` of its status, where it has run.
    pub image_id: Option<String>,
}

impl Pod {
    /// From an object of the API; `None` for one that the API server can't have sent.
    pub fn of(object: Object, owners: &Owners) -> Option<Self> {
        let meta = object.metadata;
        let (namespace, name) = (meta.namespace?, meta.name?);
        let uid = meta.annotations.as_ref().and_then(|a| a.get(CONFIG_HASH)).cloned().or(meta.uid)?;
        let labels = meta.labels.unwrap_or_default();
        let controller = meta.owner_references.unwrap_or_default().into_iter().find(|o| o.controller == Some(true));
        let workload = owners.workload(&namespace, &name, controller, &labels);
        let (spec, status) = (object.spec.unwrap_or_default(), object.status.unwrap_or_default());
        let ids: Vec<ContainerStatus> = [
            status.container_statuses,
            status.init_container_statuses,
            status.ephemeral_container_statuses,
        ]
        .into_iter()
        .flatten()
        .flatten()
        .collect();
        let images = spec
            .containers
            .into_iter()
            .chain(spec.init_containers.unwrap_or_default())
            .map(|c| (c.name, c.image))
            .chain(spec.ephemeral_containers.unwrap_or_default().into_iter().map(|c| (c.name, c.image)));
        let containers = images
            .map(|(name, image)| {
                let id = ids.iter().find(|s| s.name == name).map(|s| s.image_id.clone()).filter(|id| !id.is_empty());
                PodContainer { name, image: image.unwrap_or_default(), image_id: id }
            })
            .collect();
        let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        Some(Self { uid, namespace, name, node: spec.node_name, labels, workload, containers, finished })
    }
}
