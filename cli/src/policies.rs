//! Policies from files, held against the same rules as by the API server.

use std::path::PathBuf;

use kube::ResourceExt as _;
use zastava_admission::policies::{
    keys::Keyring,
    policy::{Requirements, Standing},
};
use zastava_crds::policy::ZastavaPolicy;
use zastava_verify::image::ImageReference;

use crate::{
    documents::{self, Document, DocumentError, Place},
    schema,
};

/// `apiVersion` of a policy.
const API_VERSION: &str = "zastava.stella-ops.org/v1alpha1";
/// `kind` of a policy.
pub const KIND: &str = "ZastavaPolicy";

/// A policy and where it is written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where.
    pub place: Place,
    /// The policy; its name stands for its UID.
    pub policy: ZastavaPolicy,
}

/// Policies that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file can't be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A document is something else.
    #[error("{place}: {kind:?} of {version:?} is no {KIND} of {API_VERSION}")]
    OtherKind {
        /// Where.
        place: Place,
        /// Its kind.
        kind: String,
        /// Its apiVersion.
        version: String,
    },
    /// The API server would refuse it, for each of these reasons.
    #[error("{}", .problems.iter().map(|p| format!("{place}: The {KIND} {name:?} is invalid: {p}")).collect::<Vec<_>>().join("\n"))]
    Invalid {
        /// Where.
        place: Place,
        /// Its name.
        name: String,
        /// What is wrong, as the API server says it.
        problems: Vec<String>,
    },
    /// The same name twice: one cluster can't hold both.
    #[error("{second}: {KIND} {name:?} is also at {first}: give it another name, or leave one out")]
    Twice {
        /// The name.
        name: String,
        /// Where it is.
        first: Place,
        /// Where it is again.
        second: Place,
    },
    /// What it refers to can't be had.
    #[error("{place}: {KIND} {name:?}: {field}: {why}")]
    Unreadable {
        /// Where.
        place: Place,
        /// Its name.
        name: String,
        /// The field.
        field: String,
        /// Why.
        why: String,
    },
    /// No policy at all.
    #[error("{0}: no {KIND} is in it")]
    None(String),
}

impl PolicyError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Document(error) => error.category(),
            Self::OtherKind { .. } => "policy_kind",
            Self::Invalid { .. } => "policy_invalid",
            Self::Twice { .. } => "policy_twice",
            Self::Unreadable { .. } => "policy_key",
            Self::None(_) => "policy_none",
        }
    }
}

/// All policies of some files, by name.
pub fn read(files: &[PathBuf]) -> Result<Vec<Written>, PolicyError> {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(documents::read(file)?);
    }
    let policies = of(documents)?;
    if policies.is_empty() {
        return Err(PolicyError::None(
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "),
        ));
    }
    Ok(policies)
}

/// The policies among documents, by name; another kind is an error.
pub fn of(documents: Vec<Document>) -> Result<Vec<Written>, PolicyError> {
    let mut policies = documents.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    policies.sort_by_key(|written| written.policy.name_any());
    for pair in policies.windows(2) {
        let [first, second] = pair else { continue };
        if first.policy.name_any() == second.policy.name_any() {
            return Err(PolicyError::Twice {
                name: first.policy.name_any(),
                first: first.place.clone(),
                second: second.place.clone(),
            });
        }
    }
    Ok(policies)
}

fn one(document: Document) -> Result<Written, PolicyError> {
    let (version, kind, name) = (document.text("/apiVersion"), document.kind(), document.name().to_owned());
    let place = document.place.clone();
    if version != API_VERSION || kind != KIND {
        return Err(PolicyError::OtherKind { place, kind: kind.to_owned(), version: version.to_owned() });
    }
    let invalid = |problems| PolicyError::Invalid { place: place.clone(), name: name.clone(), problems };
    if name.is_empty() {
        return Err(invalid(vec!["metadata.name: Required value".to_owned()]));
    }
    let problems = schema::problems(&document.value);
    if !problems.is_empty() {
        return Err(invalid(problems));
    }
    let mut policy: ZastavaPolicy =
        serde_json::from_value(document.value).map_err(|error| invalid(vec![error.to_string()]))?;
    if let Err(errors) = policy.validate_cel() {
        return Err(invalid(errors.as_slice().iter().map(|e| format!("{}: {}", e.field_path, e.message)).collect()));
    }
    // Manifests are copied with the UIDs of the clusters that they come from: among these files the name is unique.
    policy.metadata.uid = Some(name.clone());
    policy.metadata.generation.get_or_insert(1);
    Ok(Written { place, policy })
}

impl Written {
    /// Its name.
    pub fn name(&self) -> String {
        self.policy.name_any()
    }

    /// What stands for its UID.
    pub fn uid(&self) -> String {
        self.policy.uid().unwrap_or_default()
    }

    /// The base images that it pins: their repositories are asked as well.
    pub fn base_images(&self) -> impl Iterator<Item = ImageReference> {
        let written = self.policy.spec.admission.iter().flat_map(|admission| &admission.base_images);
        written.filter(|value| value.contains('@')).filter_map(|value| value.parse().ok())
    }

    /// Compiled as the webhook compiles it. What it refers to must be at hand: without it nothing can be judged.
    pub fn compile(&self, keys: &Keyring) -> Result<Standing, PolicyError> {
        let standing = Standing::compile(&self.policy, keys);
        match &standing {
            Standing::InForce(policy) => match &policy.requirements {
                Requirements::Unreadable { field, why } => Err(PolicyError::Unreadable {
                    place: self.place.clone(),
                    name: self.name(),
                    field: field.clone(),
                    why: why.clone(),
                }),
                Requirements::Proof(_) | Requirements::DigestOnly => Ok(standing),
            },
            Standing::Skipped { .. } => Ok(standing),
        }
    }
}
