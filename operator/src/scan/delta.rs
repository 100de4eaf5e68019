//! What a scan is about.

use std::str::FromStr as _;

use kube::ResourceExt as _;
use zastava_crds::{
    digest::{DigestKind, Sha256Digest},
    finding::{FindingType, RuntimeFinding},
};
use zastava_verify::image::ImageReference;

/// Where a finding is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What ran, and what image it ran in. Findings of one delta share one scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Delta {
    /// Reference of the image, as the kubelet asked for it.
    pub(super) image: Option<String>,
    /// The digest that runs, never that of a config: a registry does not know those.
    pub(super) digest: Option<Sha256Digest>,
    /// Path in the container's root.
    pub(super) path: String,
    /// Content that ran; absent where it could not be read.
    pub(super) sha256: Option<Sha256Digest>,
    /// Policies it was found by, sorted: they say whose word counts.
    pub(super) policies: Vec<String>,
}

impl Place {
    pub(super) fn of(finding: &RuntimeFinding) -> Self {
        Self { namespace: finding.namespace().unwrap_or_default(), name: finding.name_any() }
    }
}

impl Delta {
    /// Of a finding; `None` if it is not about drift, or nothing was counted yet.
    pub(super) fn of(finding: &RuntimeFinding) -> Option<Self> {
        if finding.spec.type_ != FindingType::Drift {
            return None;
        }
        let status = finding.status.as_ref()?;
        let evidence = status.evidence.as_ref()?;
        let mut policies = status.policies.clone();
        policies.sort();
        Some(Self {
            digest: digest(status.image.as_deref(), &status.digests),
            image: status.image.clone(),
            path: finding.spec.subject.clone(),
            sha256: evidence.sha256.clone(),
            policies,
        })
    }
}

/// The digest in the pod's spec, else the first that a registry can know.
fn digest(image: Option<&str>, digests: &[zastava_crds::digest::ImageDigest]) -> Option<Sha256Digest> {
    let written = image.and_then(|image| ImageReference::from_str(image).ok()).and_then(|i| i.digest().cloned());
    written.or_else(|| digests.iter().find(|d| d.kind != DigestKind::Config).map(|d| d.digest.clone()))
}
