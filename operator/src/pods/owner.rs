//! From a pod's controller to the workload that people know.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use zastava_crds::wire::report::WorkloadRef;

/// The Deployment controller puts it on its ReplicaSets and their pods, and appends it to the ReplicaSet's name.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Jobs that a CronJob made, by namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Owners(Arc<Mutex<HashMap<(String, String), String>>>);

impl Owners {
    pub(super) fn set(&self, namespace: &str, job: &str, cron_job: Option<String>) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), job.to_owned());
        match cron_job {
            Some(cron_job) => jobs.insert(key, cron_job),
            None => jobs.remove(&key),
        };
    }

    pub(super) fn replace(&self, jobs: HashMap<(String, String), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = jobs;
    }

    /// The outermost controller that is known, else the pod itself. A static pod's owner is its node: it stands for itself.
    pub(super) fn workload(
        &self,
        namespace: &str,
        pod: &str,
        controller: Option<OwnerReference>,
        labels: &BTreeMap<String, String>,
    ) -> WorkloadRef {
        let Some(owner) = controller.filter(|owner| owner.kind != "Node") else {
            return WorkloadRef { kind: "Pod".to_owned(), name: pod.to_owned() };
        };
        if owner.kind == "ReplicaSet"
            && let Some(hash) = labels.get(TEMPLATE_HASH)
            && let Some(deployment) = owner.name.strip_suffix(hash.as_str()).and_then(|name| name.strip_suffix('-'))
        {
            return WorkloadRef { kind: "Deployment".to_owned(), name: deployment.to_owned() };
        }
        if owner.kind == "Job" {
            let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(cron_job) = jobs.get(&(namespace.to_owned(), owner.name.clone())) {
                return WorkloadRef { kind: "CronJob".to_owned(), name: cron_job.clone() };
            }
        }
        WorkloadRef { kind: owner.kind.chars().take(63).collect(), name: owner.name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: &str, name: &str) -> OwnerReference {
        OwnerReference {
            kind: kind.to_owned(),
            name: name.to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }
    }

    fn name(owners: &Owners, controller: Option<OwnerReference>, hash: Option<&str>) -> String {
        let labels = hash.map(|hash| (TEMPLATE_HASH.to_owned(), hash.to_owned())).into_iter().collect();
        let workload = owners.workload("ns", "pod-x", controller, &labels);
        format!("{}/{}", workload.kind, workload.name)
    }

    #[test]
    fn the_workload_is_the_outermost_controller_that_is_known() {
        let owners = Owners::default();
        owners.set("ns", "nightly-28", Some("nightly".to_owned()));
        let cases = [
            (None, None, "Pod/pod-x"),
            (Some(owner("Node", "n1")), None, "Pod/pod-x"),
            (Some(owner("ReplicaSet", "web-7f9c")), Some("7f9c"), "Deployment/web"),
            (Some(owner("ReplicaSet", "web-7f9c")), None, "ReplicaSet/web-7f9c"),
            (Some(owner("ReplicaSet", "web-7f9c")), Some("other"), "ReplicaSet/web-7f9c"),
            (Some(owner("Job", "nightly-28")), None, "CronJob/nightly"),
            (Some(owner("Job", "once")), None, "Job/once"),
            (Some(owner("StatefulSet", "db")), None, "StatefulSet/db"),
        ];
        for (controller, hash, expected) in cases {
            assert_eq!(name(&owners, controller, hash), expected);
        }
    }
}
