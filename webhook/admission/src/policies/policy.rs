//! One policy, compiled: its scope, its exceptions, and what it asks of an image.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};
use serde_json::{Value, json};
use zastava_core::backend::terms::Terms;
use zastava_crds::{
    canonical,
    digest::Sha256Digest,
    policy::{Digests, FailurePolicy, LabelSelector, Mode, PolicyException, Unmatched, ZastavaPolicy, supported},
    wire::event::PolicyRef,
};
use zastava_verify::{
    image::ImageReference,
    requirement::{PolicyRequirements, RequirementError, TrustStore},
};

use super::globs::Globs;

/// Labels of a pod or a namespace.
pub type Labels = BTreeMap<String, String>;

/// A policy as this replica holds it.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It decides.
    InForce(Arc<Policy>),
    /// It does not, for the same reasons as the operator has.
    Skipped {
        /// Its name.
        name: String,
        /// Why it does not decide.
        reason: String,
    },
}

/// A policy that decides.
#[derive(Debug)]
pub struct Policy {
    /// Name, UID and hash of the spec, as records carry them.
    pub reference: PolicyRef,
    /// Audit, Warn or Enforce.
    pub mode: Mode,
    /// What becomes of an unknown verdict under Enforce.
    pub on_unknown: FailurePolicy,
    /// What becomes of an image in scope that no policy selects.
    unmatched: Unmatched,
    /// As written; absent means what the mode makes of it.
    pub digests: Option<Digests>,
    /// Which pods and images it speaks for.
    pub scope: Scope,
    /// What it asks.
    pub requirements: Requirements,
    /// What it makes of the backend's word; absent: it asks for none.
    pub verdict: Option<Terms>,
    exceptions: Vec<Exception>,
}

/// Which pods and images a policy speaks for.
#[derive(Debug)]
pub struct Scope {
    /// On the namespace's labels.
    pub namespaces: Option<Selector>,
    /// On the pod's labels.
    pub pods: Option<Selector>,
    /// On the canonical name of the image; absent: every image.
    pub images: Option<Globs>,
}

/// What a policy asks of an image.
#[derive(Clone, Debug)]
pub enum Requirements {
    /// To be proven.
    Proof(Arc<PolicyRequirements>),
    /// No more than a digest.
    DigestOnly,
    /// It can't be said what: a key can't be read. Every verdict is unknown.
    Unreadable {
        /// Path of the field.
        field: String,
        /// What is wrong with it, and the fix.
        why: String,
    },
}

/// An exception that speaks for admission.
#[derive(Debug)]
pub struct Exception {
    /// Its name.
    pub name: String,
    /// Why it was granted.
    pub reason: String,
    /// When it stops counting.
    pub expires: Timestamp,
    namespaces: Vec<String>,
    pods: Option<Selector>,
    images: Option<Globs>,
    digests: Vec<Sha256Digest>,
}

/// An image in its pod, as exceptions look at it.
#[derive(Clone, Copy, Debug)]
pub struct Occurrence<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Labels of the pod.
    pub labels: &'a Labels,
    /// The image.
    pub image: &'a ImageReference,
    /// What it resolved to, if more is known than the reference says.
    pub digest: Option<&'a Sha256Digest>,
}

impl Standing {
    /// Its name, and whether it decides.
    pub fn status(&self) -> Value {
        match self {
            Self::InForce(policy) => json!({"name": policy.reference.name, "mode": policy.mode, "inForce": true}),
            Self::Skipped { name, reason } => json!({"name": name, "inForce": false, "reason": reason}),
        }
    }

    /// Compiles a policy, with what it refers to looked up in `store`.
    pub fn compile(policy: &ZastavaPolicy, store: &impl TrustStore) -> Self {
        let name = policy.name_any();
        match compile(policy, store) {
            Ok(policy) => Self::InForce(Arc::new(policy)),
            Err(reason) => Self::Skipped { name, reason },
        }
    }
}

fn compile(policy: &ZastavaPolicy, store: &impl TrustStore) -> Result<Policy, String> {
    let spec = &policy.spec;
    if spec.suspend {
        return Err("spec.suspend is true".to_owned());
    }
    let Some(admission) = &spec.admission else {
        return Err("spec.admission is absent".to_owned());
    };
    let unsupported = supported::unsupported_fields(spec);
    if let Some(first) = unsupported.first() {
        return Err(format!("{first} is not supported by this version"));
    }
    if let Err(invalid) = policy.validate_cel() {
        return Err(format!("the spec is not valid: {invalid}"));
    }
    let scope = Scope {
        namespaces: selector("spec.match.namespaceSelector", spec.match_.namespace_selector.as_ref())?,
        pods: selector("spec.match.podSelector", spec.match_.pod_selector.as_ref())?,
        images: globs("spec.match.images", spec.match_.images.iter().map(String::as_str))?,
    };
    let exceptions = spec
        .exceptions
        .iter()
        .enumerate()
        .map(|(i, exception)| compile_exception(i, exception))
        .collect::<Result<_, _>>()?;
    let uid = policy.uid().unwrap_or_default();
    let requirements = match PolicyRequirements::from_spec(
        &policy.name_any(),
        &uid,
        policy.metadata.generation.unwrap_or_default(),
        admission,
        store,
    ) {
        Ok(Some(requirements)) => Requirements::Proof(Arc::new(requirements)),
        Ok(None) => Requirements::DigestOnly,
        // As the operator has it: a policy with such a field is not in force at either end.
        Err(error @ (RequirementError::Condition { .. } | RequirementError::BaseImage { .. })) => {
            return Err(format!("spec.admission.{error}"));
        }
        Err(error) => Requirements::Unreadable { field: "spec.admission".to_owned(), why: error.to_string() },
    };
    let (requirements, verdict) = match admission.verdict.as_ref().map(Terms::of).transpose() {
        Ok(terms) => (requirements, terms),
        Err(error) => {
            (Requirements::Unreadable { field: "spec.admission.verdict".to_owned(), why: error.to_string() }, None)
        }
    };
    let hash = canonical::hash(spec).map_err(|error| error.to_string())?;
    Ok(Policy {
        reference: PolicyRef { name: policy.name_any(), uid, hash },
        mode: spec.mode,
        on_unknown: admission.failure_policy.unwrap_or(match spec.mode {
            Mode::Enforce => FailurePolicy::Fail,
            Mode::Audit | Mode::Warn => FailurePolicy::Ignore,
        }),
        unmatched: admission.unmatched,
        digests: admission.digests,
        scope,
        requirements,
        verdict,
        exceptions,
    })
}

fn compile_exception(i: usize, exception: &PolicyException) -> Result<Exception, String> {
    let at = format!("spec.exceptions[{i}].match");
    let (digests, names): (Vec<_>, Vec<_>) =
        exception.match_.images.iter().partition(|image| image.parse::<Sha256Digest>().is_ok());
    let images = globs(&format!("{at}.images"), names.into_iter().map(String::as_str))?;
    Ok(Exception {
        name: exception.name.clone(),
        reason: exception.reason.clone(),
        expires: exception.expires.0,
        namespaces: exception.match_.namespaces.clone(),
        pods: selector(&format!("{at}.podSelector"), exception.match_.pod_selector.as_ref())?,
        images,
        digests: digests.into_iter().filter_map(|digest| digest.parse().ok()).collect(),
    })
}

fn selector(field: &str, selector: Option<&LabelSelector>) -> Result<Option<Selector>, String> {
    selector.map(|s| Selector::try_from(s.clone()).map_err(|error| format!("{field}: {error}"))).transpose()
}

fn globs<'a>(field: &str, globs: impl IntoIterator<Item = &'a str>) -> Result<Option<Globs>, String> {
    let mut globs = globs.into_iter().peekable();
    if globs.peek().is_none() {
        return Ok(None);
    }
    Globs::new(globs).map(Some).map_err(|error| format!("{field}: {error}"))
}

impl Scope {
    /// Whether a pod with these labels is spoken for.
    pub fn has_pod(&self, labels: &Labels) -> bool {
        self.pods.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether an image is spoken for.
    pub fn has_image(&self, image: &ImageReference) -> bool {
        self.images.as_ref().is_none_or(|globs| globs.matches(&image.canonical()))
    }
}

impl Policy {
    /// Whether pods are to be pinned for this policy: in mode Warn only where it is written, in Audit never.
    pub fn pins(&self) -> bool {
        match self.mode {
            Mode::Enforce => self.digests.is_none_or(|digests| digests == Digests::Resolve),
            Mode::Warn => self.digests == Some(Digests::Resolve),
            Mode::Audit => false,
        }
    }

    /// Whether whoever writes a pod must write its digests.
    pub fn requires_written_digests(&self) -> bool {
        self.digests == Some(Digests::Require)
    }

    /// The first exception of this policy that holds at `now` for an image.
    pub fn exception(&self, occurrence: Occurrence<'_>, now: Timestamp) -> Option<&Exception> {
        self.exceptions.iter().find(|e| now < e.expires && e.covers(occurrence))
    }

    /// Whether an image in scope that no policy selects is this policy's to refuse.
    pub fn refuses_unmatched(&self) -> bool {
        self.unmatched == Unmatched::Deny
    }
}

impl Exception {
    fn covers(&self, occurrence: Occurrence<'_>) -> bool {
        let of_namespace = self.namespaces.is_empty() || self.namespaces.iter().any(|n| n == occurrence.namespace);
        let of_pod = self.pods.as_ref().is_none_or(|selector| selector.matches(occurrence.labels));
        let of_image = match (&self.images, self.digests.as_slice()) {
            (None, []) => true,
            (globs, digests) => {
                let digest = occurrence.digest.or_else(|| occurrence.image.digest());
                globs.as_ref().is_some_and(|globs| globs.matches(&occurrence.image.canonical()))
                    || digest.is_some_and(|digest| digests.contains(digest))
            }
        };
        of_namespace && of_pod && of_image
    }
}
