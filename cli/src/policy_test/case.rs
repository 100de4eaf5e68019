//! One case: what is asked of the webhook, and what it should answer.

use std::path::{Path, PathBuf};

use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionReview},
};
use serde::Deserialize;
use serde_json::{Value, json};
use zastava_admission::review::request::{Asked, read};
use zastava_verify::image::ImageReference;

use super::expect::Expect;
use crate::documents::{self, DocumentError, Place};

/// A file of `cases`.
#[derive(Debug)]
pub struct Case {
    /// Name of the file without its ending.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// What it is about.
    pub description: String,
    /// What should be answered.
    pub expect: Expect,
    review: Value,
}

/// A case that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// A file can't be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Something else than one case is in the file.
    #[error("{}: {count} documents: a case is one", file.display())]
    Documents {
        /// The file.
        file: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// It is not of the form of a case.
    #[error("{place}: {why}")]
    Malformed {
        /// Where.
        place: Place,
        /// What is wrong, and the fix.
        why: String,
    },
}

impl CaseError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Document(error) => error.category(),
            Self::Documents { .. } => "case_documents",
            Self::Malformed { .. } => "case_malformed",
        }
    }
}

/// As it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(default)]
    description: String,
    /// An AdmissionReview as the API server sends it.
    review: Option<Value>,
    /// Or an object that is created, or updated from `oldObject`.
    object: Option<Value>,
    /// Or a file with one, from the case's own folder on.
    object_file: Option<PathBuf>,
    old_object: Option<Value>,
    #[serde(default = "Written::default_namespace")]
    namespace: String,
    expect: Expect,
}

impl Written {
    fn default_namespace() -> String {
        "default".to_owned()
    }
}

impl Case {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, CaseError> {
        let document = one(file)?;
        let place = document.place;
        let malformed = |why: String| CaseError::Malformed { place: place.clone(), why };
        let written: Written = serde_json::from_value(document.value).map_err(|error| malformed(error.to_string()))?;
        let object = match (written.review, written.object, written.object_file) {
            (Some(review), None, None) => {
                return Self::of(file, written.description, written.expect, review).map_err(malformed);
            }
            (None, Some(object), None) => object,
            (None, None, Some(other)) => one(&file.parent().unwrap_or(Path::new(".")).join(other))?.value,
            _ => return Err(malformed("set exactly one of object, objectFile and review".to_owned())),
        };
        let name = stem(file);
        let review = review(&name, &object, written.old_object.as_ref(), &written.namespace).map_err(malformed)?;
        Self::of(file, written.description, written.expect, review).map_err(malformed)
    }

    fn of(file: &Path, description: String, expect: Expect, review: Value) -> Result<Self, String> {
        let case = Self { name: stem(file), file: file.to_owned(), description, expect, review };
        case.request().map(|_| case)
    }

    /// The request, as the API server makes it.
    pub fn request(&self) -> Result<AdmissionRequest<DynamicObject>, String> {
        let review: AdmissionReview<DynamicObject> =
            serde_json::from_value(self.review.clone()).map_err(|error| format!("not an AdmissionReview: {error}"))?;
        review.try_into().map_err(|_| "review: the AdmissionReview has no request".to_owned())
    }

    /// The same after a patch of its object.
    pub fn patched(&self, patch: &json_patch::Patch) -> Result<AdmissionRequest<DynamicObject>, String> {
        let mut review = self.review.clone();
        let object = review.pointer_mut("/request/object").ok_or("the request has no object")?;
        json_patch::patch(object, patch).map_err(|error| format!("the patch does not fit: {error}"))?;
        Self { review, ..self.like() }.request()
    }

    fn like(&self) -> Self {
        Self {
            name: self.name.clone(),
            file: self.file.clone(),
            description: String::new(),
            expect: self.expect.clone(),
            review: Value::Null,
        }
    }

    /// The images that it brings in.
    pub fn images(&self) -> Vec<ImageReference> {
        match self.request().map(read) {
            Ok(Asked::Images(workload)) => {
                workload.images.iter().filter_map(|image| image.reference.parse().ok()).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn one(file: &Path) -> Result<documents::Document, CaseError> {
    let mut documents = documents::read(file)?;
    match (documents.len(), documents.pop()) {
        (1, Some(document)) => Ok(document),
        (count, _) => Err(CaseError::Documents { file: file.to_owned(), count }),
    }
}

fn stem(file: &Path) -> String {
    file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The review that the API server would send.
fn review(name: &str, object: &Value, old: Option<&Value>, namespace: &str) -> Result<Value, String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let version = text("/apiVersion").ok_or("object.apiVersion is absent: write one, such as v1")?;
    let kind = text("/kind").ok_or("object.kind is absent: write one, such as Pod")?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let namespace = text("/metadata/namespace").unwrap_or(namespace);
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        let metadata = fields.entry("metadata").or_insert(Value::Null);
        if metadata.is_null() {
            *metadata = json!({});
        }
        let metadata =
            metadata.as_object_mut().ok_or("object.metadata is no mapping: write one, such as {name: web}")?;
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    Ok(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": name,
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": group, "version": version, "resource": format!("{}s", kind.to_lowercase())},
        "name": object["metadata"]["name"], "namespace": namespace,
        "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
        "userInfo": {"username": "policy-test"},
        "object": object, "oldObject": old, "dryRun": false,
    }}))
}
