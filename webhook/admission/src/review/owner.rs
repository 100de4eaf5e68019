//! Which workload a pod belongs to, as far as the object itself tells: for reports, never for a decision.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use zastava_crds::wire::report::WorkloadRef;

use super::kind::WorkloadKind;

const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// The outermost controller that is known from the object, else the object.
pub fn workload(kind: WorkloadKind, metadata: &ObjectMeta) -> WorkloadRef {
    let controller =
        metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)).filter(|_| {
            // A template's owner (an operator's custom resource, say) tells less than the template's own name does.
            matches!(kind, WorkloadKind::Pod | WorkloadKind::ReplicaSet | WorkloadKind::Job)
        });
    match controller {
        Some(owner) => outermost(owner, metadata.labels.as_ref()),
        None => WorkloadRef { kind: kind.to_string(), name: bounded(&own_name(metadata), 253) },
    }
}

/// A Deployment names its ReplicaSets `<deployment>-<pod-template-hash>` and labels their pods with the hash.
fn outermost(owner: &OwnerReference, labels: Option<&BTreeMap<String, String>>) -> WorkloadRef {
    if owner.kind == "ReplicaSet"
        && let Some(hash) = labels.and_then(|labels| labels.get(POD_TEMPLATE_HASH))
        && let Some(deployment) = owner.name.strip_suffix(hash).and_then(|name| name.strip_suffix('-'))
        && !deployment.is_empty()
    {
        return WorkloadRef { kind: "Deployment".to_owned(), name: bounded(deployment, 253) };
    }
    WorkloadRef { kind: bounded(&owner.kind, 63), name: bounded(&owner.name, 253) }
}

fn own_name(metadata: &ObjectMeta) -> String {
    metadata
        .name
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| metadata.generate_name.as_deref().unwrap_or_default().trim_end_matches('-').to_owned())
}

fn bounded(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned_by(kind: &str, name: &str, hash: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some("x".to_owned()),
            labels: hash.map(|hash| BTreeMap::from([(POD_TEMPLATE_HASH.to_owned(), hash.to_owned())])),
            owner_references: Some(vec![OwnerReference {
                kind: kind.to_owned(),
                name: name.to_owned(),
                controller: Some(true),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        }
    }

    fn named(kind: &str, name: &str) -> WorkloadRef {
        WorkloadRef { kind: kind.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_pod_of_a_deployment_is_the_deployments() {
        let of = |meta: &ObjectMeta| workload(WorkloadKind::Pod, meta);
        assert_eq!(of(&owned_by("ReplicaSet", "web-5d9", Some("5d9"))), named("Deployment", "web"));
        // A ReplicaSet that no Deployment made keeps its own name.
        assert_eq!(of(&owned_by("ReplicaSet", "web-5d9", None)), named("ReplicaSet", "web-5d9"));
        assert_eq!(of(&owned_by("ReplicaSet", "5d9", Some("5d9"))), named("ReplicaSet", "5d9"));
        assert_eq!(of(&owned_by("StatefulSet", "db", None)), named("StatefulSet", "db"));
    }

    #[test]
    fn jobs_belong_to_their_cron_job_and_lone_pods_to_themselves() {
        assert_eq!(workload(WorkloadKind::Job, &owned_by("CronJob", "nightly", None)), named("CronJob", "nightly"));
        assert_eq!(workload(WorkloadKind::Deployment, &owned_by("App", "a", None)), named("Deployment", "x"));
        let generated = ObjectMeta { generate_name: Some("once-".to_owned()), ..ObjectMeta::default() };
        assert_eq!(workload(WorkloadKind::Pod, &generated), named("Pod", "once"));
    }
}
