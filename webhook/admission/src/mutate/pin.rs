//! Which references of a pod are pinned, and to what. A reference that can't be resolved is left as it is: validation
//! speaks about it.

use futures::future::join_all;
use jiff::Timestamp;
use kube::core::SelectorExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use zastava_crds::policy::Mode;
use zastava_verify::image::ImageReference;

use crate::{
    cluster::Cluster,
    credentials::pull::Credentials,
    engine::Engine,
    policies::{
        policy::{Occurrence, Policy},
        snapshot::{Snapshot, World},
    },
    review::{
        images::ImageUse,
        request::{MAX_IMAGES, Workload},
    },
    validate::scope,
};

/// References of one pod that are resolved at once.
const AT_ONCE: usize = 64;

/// What became of a pod's references.
#[derive(Debug, Default)]
pub struct Pinned {
    /// JSON Patch operations.
    pub patch: Vec<Value>,
    /// References that had to stay, with the cause.
    pub left: Vec<String>,
}

/// All that pinning rests on.
#[derive(Debug)]
pub struct Pinning<'a, E, C> {
    /// The verification engine.
    pub engine: &'a E,
    /// The API server.
    pub cluster: &'a C,
    /// Policies and their surroundings.
    pub world: &'a World,
    /// Credentials.
    pub credentials: &'a Credentials,
    /// When the answer must be given.
    pub deadline: Instant,
    /// The moment that exceptions are held against.
    pub now: Timestamp,
}

impl<E: Engine, C: Cluster> Pinning<'_, E, C> {
    /// Pins the new images of a pod that a policy wants pinned.
    pub async fn pin(&self, workload: &Workload) -> Pinned {
        if workload.kind.is_template() || workload.images.len() > MAX_IMAGES {
            return Pinned::default();
        }
        let snapshot = self.world.snapshot();
        let wanted = self.wanted(&snapshot, workload).await;
        if wanted.is_empty() {
            return Pinned::default();
        }
        let access = self.credentials.of(self.cluster, workload, self.deadline).await;
        let mut resolved = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(AT_ONCE) {
            let pins = some.iter().map(|(_, image)| self.engine.pin(image, &access.keychain, self.deadline));
            resolved.extend(join_all(pins).await);
        }
        let mut pinned = Pinned::default();
        for ((named, _), pin) in wanted.iter().zip(resolved) {
            match pin {
                Ok(pin) => {
                    pinned.patch.push(json!({"op": "replace", "path": named.pointer, "value": pin.reference()}));
                }
                Err(unknown) => pinned.left.push(format!("{} {}: {unknown}", named.field, named.container)),
            }
        }
        pinned
    }

    async fn wanted<'w>(&self, snapshot: &Snapshot, workload: &'w Workload) -> Vec<(&'w ImageUse, ImageReference)> {
        let unpinned: Vec<(&ImageUse, ImageReference)> = workload
            .images
            .iter()
            .filter_map(|named| Some((named, named.reference.parse::<ImageReference>().ok()?)))
            .filter(|(_, image)| image.digest().is_none())
            .collect();
        let mut policies: Vec<&Policy> = snapshot
            .in_force()
            .map(AsRef::as_ref)
            .filter(|policy| policy.scope.has_pod(&workload.labels))
            .filter(|policy| unpinned.iter().any(|(_, image)| policy.scope.has_image(image)))
            .collect();
        let labels = if policies.iter().any(|policy| policy.scope.namespaces.is_some()) {
            scope::labels(&workload.namespace, self.world, self.cluster, self.deadline).await
        } else {
            None
        };
        // Labels that can't be had count as selected: a digest too many harms nobody, a missing one refuses the pod.
        let selected = |policy: &Policy| match (&policy.scope.namespaces, &labels) {
            (Some(selector), Some(labels)) => selector.matches(labels),
            _ => true,
        };
        policies.retain(|policy| selected(policy));
        unpinned.into_iter().filter(|(_, image)| self.is_wanted(&policies, workload, image)).collect()
    }

    /// A policy that refuses what is not written with a digest would be circumvented by a pin for another policy.
    fn is_wanted(&self, policies: &[&Policy], workload: &Workload, image: &ImageReference) -> bool {
        let occurrence = Occurrence { namespace: &workload.namespace, labels: &workload.labels, image, digest: None };
        let speaking = || {
            let selecting = policies.iter().filter(|policy| policy.scope.has_image(image));
            selecting.filter(|policy| policy.exception(occurrence, self.now).is_none())
        };
        let refused = speaking().any(|policy| policy.mode == Mode::Enforce && policy.requires_written_digests());
        !refused && speaking().any(|policy| policy.pins())
    }
}
