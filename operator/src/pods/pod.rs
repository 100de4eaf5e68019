//! What is kept of a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as Object};
use zastava_crds::wire::report::WorkloadRef;

use super::owner::Owners;

/// The kubelet writes it on the mirror of a static pod: the uid that the runtime knows the pod by.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// The kubelet writes it on mirrors alone.
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Hex digits of a config hash; no UID that the API server gives has this form.
const HASH_DIGITS: usize = 32;

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
    /// Volumes that are images: name and reference.
    pub image_volumes: Vec<(String, String)>,
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
        let labels = meta.labels.unwrap_or_default();
        let controller = meta.owner_references.unwrap_or_default().into_iter().find(|o| o.controller == Some(true));
        let annotations = meta.annotations.unwrap_or_default();
        // Whoever makes a pod writes its annotations: one must never make it pass for another pod.
        let hash = annotations.get(CONFIG_HASH).filter(|hash| {
            is_config_hash(hash)
                && annotations.contains_key(CONFIG_MIRROR)
                && controller.as_ref().is_some_and(|owner| owner.kind == "Node")
        });
        let uid = hash.cloned().or(meta.uid)?;
        let workload = owners.workload(&namespace, &name, controller, &labels);
        let (spec, status) = (object.spec.unwrap_or_default(), object.status.unwrap_or_default());
        let ids: Vec<ContainerStatus> =
            [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses]
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
        let image_volumes = spec
            .volumes
            .unwrap_or_default()
            .into_iter()
            .filter_map(|volume| Some((volume.name, volume.image?.reference?)))
            .collect();
        let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let node = spec.node_name;
        Some(Self { uid, namespace, name, node, labels, workload, containers, image_volumes, finished })
    }
    /// Whether it is the same object of the API as another.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.name == other.name
    }

    /// What it is remembered by: a static pod is one of its node alone.
    pub(super) fn key(&self) -> String {
        match &self.node {
            Some(node) if is_config_hash(&self.uid) => static_key(node, &self.uid),
            _ => self.uid.clone(),
        }
    }
}

/// Whether a uid is that of a static pod.
pub(super) fn is_config_hash(uid: &str) -> bool {
    uid.len() == HASH_DIGITS && uid.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What a static pod of a node is remembered by.
pub(super) fn static_key(node: &str, hash: &str) -> String {
    format!("{hash}@{node}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

    use super::*;

    #[test]
    fn annotations_do_not_make_a_pod_pass_for_another() {
        let uid = |annotations: &[(&str, &str)], owner: &str| {
            let owner = OwnerReference { kind: owner.into(), controller: Some(true), ..OwnerReference::default() };
            let metadata = ObjectMeta {
                namespace: Some("shop".into()),
                name: Some("p".into()),
                uid: Some("own".into()),
                annotations: Some(
                    annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<BTreeMap<_, _>>(),
                ),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            };
            Pod::of(Object { metadata, ..Object::default() }, &Owners::default()).unwrap().uid
        };
        let (hash, mirror) = ("0123456789abcdef0123456789abcdef", (CONFIG_MIRROR, "x"));
        assert_eq!(uid(&[(CONFIG_HASH, hash), mirror], "Node"), hash);
        assert_eq!(uid(&[(CONFIG_HASH, hash)], "Node"), "own");
        assert_eq!(uid(&[(CONFIG_HASH, hash), mirror], "ReplicaSet"), "own");
        let victim = "4b1f2c8e-8f5e-4d83-9c59-7a4f3a1f2d3c";
        assert_eq!(uid(&[(CONFIG_HASH, victim), mirror], "Node"), "own");
    }
}
