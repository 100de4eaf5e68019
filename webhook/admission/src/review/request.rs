//! What an AdmissionReview asks, in the terms of this program.

use std::collections::BTreeMap;

use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, Operation},
};
use serde::Deserialize;
use serde_json::Value;
use zastava_crds::wire::report::WorkloadRef;

use super::{
    images::{self, ImageUse},
    kind::WorkloadKind,
    owner,
};

/// Images of one object at most: more can't be judged within a deadline, and no pod has them.
pub const MAX_IMAGES: usize = 256;

/// What a request asks of us.
#[derive(Debug)]
pub enum Asked {
    /// Nothing, and why.
    Nothing(String),
    /// Whether these images may start.
    Images(Box<Workload>),
}

/// The object of a request, as far as a decision needs it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// UID of the request: the correlation id of logs and reports.
    pub request_uid: String,
    /// Its full answer is wanted, and nothing else: no report, no count.
    pub dry_run: bool,
    /// What it is.
    pub kind: WorkloadKind,
    /// Where it is.
    pub namespace: String,
    /// Who reports speak of.
    pub owner: WorkloadRef,
    /// Labels of the pod, or of the pods to come.
    pub labels: BTreeMap<String, String>,
    /// Images that the request brings in: all of a new object, the changed ones of an update.
    pub images: Vec<ImageUse>,
    /// Names of the pull secrets that the pod names.
    pub pull_secrets: Vec<String>,
    /// The pod's service account, whose pull secrets count too.
    pub service_account: String,
}

/// The parts of a pod that matter beside its images.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodParts {
    image_pull_secrets: Vec<LocalReference>,
    service_account_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LocalReference {
    name: String,
}

/// Reads a request. `deletionTimestamp`, annotations, and whatever else the object says, change nothing here.
pub fn read(request: AdmissionRequest<DynamicObject>) -> Asked {
    match request.operation {
        Operation::Create | Operation::Update => {}
        Operation::Delete | Operation::Connect => {
            return Asked::Nothing("only creations and updates bring in images".to_owned());
        }
    }
    let Some(kind) = WorkloadKind::of(&request.kind) else {
        return Asked::Nothing(format!(
            "{} {} is no kind that Zastava knows to carry images",
            request.kind.group, request.kind.kind
        ));
    };
    match request.sub_resource.as_deref() {
        None | Some("") => {}
        Some("ephemeralcontainers") if kind == WorkloadKind::Pod => {}
        Some(other) => return Asked::Nothing(format!("subresource {other} brings in no images")),
    }
    let Some(object) = request.object else {
        return Asked::Nothing("the request has no object".to_owned());
    };
    let uses: Vec<_> = images::of(&object.data, kind.pod_at()).collect();
    let images = match (&request.operation, &request.old_object) {
        (Operation::Update, Some(old)) => {
            let old: Vec<_> = images::of(&old.data, kind.pod_at()).collect();
            images::changed(uses, &old)
        }
        _ => uses,
    };
    if images.is_empty() {
        return Asked::Nothing("no image is new".to_owned());
    }
    let pod = object.data.pointer(kind.pod_at()).unwrap_or(&Value::Null);
    let parts = pod.get("spec").and_then(|spec| PodParts::deserialize(spec).ok()).unwrap_or_default();
    let labels = if kind.is_template() {
        pod.pointer("/metadata/labels").and_then(|labels| BTreeMap::deserialize(labels).ok()).unwrap_or_default()
    } else {
        object.metadata.labels.clone().unwrap_or_default()
    };
    Asked::Images(Box::new(Workload {
        request_uid: request.uid,
        dry_run: request.dry_run,
        kind,
        namespace: request.namespace.unwrap_or_default(),
        owner: owner::workload(kind, &object.metadata),
        labels,
        images,
        pull_secrets: parts.image_pull_secrets.into_iter().map(|s| s.name).filter(|name| !name.is_empty()).collect(),
        service_account: parts
            .service_account_name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
    }))
}
