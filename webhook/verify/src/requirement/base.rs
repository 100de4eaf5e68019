//! Base images that are known.

use std::fmt;

use globset::GlobMatcher;
use zastava_crds::{digest::Sha256Digest, policy::AdmissionSpec};

use super::{AttestationRequirement, RequirementError, SignatureRequirement};
use crate::{
    image::{self, ImageReference},
    provenance,
};

/// A base image, as a policy names it.
#[derive(Clone, Debug)]
pub enum BaseImage {
    /// By its digest alone: a provenance can name it, its layers can't be looked at.
    Digest(Sha256Digest),
    /// By name and digest: its layers can be asked of its registry.
    Pinned {
        /// Where it is.
        image: ImageReference,
        /// What it is.
        digest: Sha256Digest,
    },
    /// All images whose `host/repository` matches: a provenance can name them.
    Named(GlobMatcher),
}

/// The `baseImages` of a policy; never none.
#[derive(Clone, Debug)]
pub struct BaseImages {
    known: Vec<BaseImage>,
    /// Who signs the provenance that counts.
    provenance: Option<SignatureRequirement>,
}

impl BaseImages {
    pub(super) fn from_spec(
        spec: &AdmissionSpec,
        signatures: &[SignatureRequirement],
        attestations: &[AttestationRequirement],
    ) -> Result<Option<Self>, RequirementError> {
        let known = parse(spec)?;
        if known.is_empty() {
            return Ok(None);
        }
        let asked = attestations.iter().find(|attestation| provenance::is_provenance(attestation.predicate_type()));
        let provenance = match (asked, signatures) {
            (Some(asked), _) => Some(asked.signed_by().clone()),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        };
        let by_provenance = known.iter().position(|base| !matches!(base, BaseImage::Pinned { .. }));
        if let (None, Some(index)) = (&provenance, by_provenance) {
            return Err(RequirementError::BaseImage {
                field: field(index),
                why: format!(
                    "only a signed provenance can show {}, and it is not said who signs it: add an entry to attestations \
                     with predicateType {} and signedBy, or name the base image as host/repository@sha256:…",
                    known[index],
                    provenance::TYPES[0],
                ),
            });
        }
        Ok(Some(Self { known, provenance }))
    }

    /// All of them.
    pub fn known(&self) -> &[BaseImage] {
        &self.known
    }

    /// Who signs the provenance that counts; absent: none does, and the layers alone can show a base image.
    pub fn provenance(&self) -> Option<&SignatureRequirement> {
        self.provenance.as_ref()
    }
}

/// Those that a policy's `admission` names.
pub(super) fn parse(spec: &AdmissionSpec) -> Result<Vec<BaseImage>, RequirementError> {
    let read = |(index, value): (usize, &String)| {
        BaseImage::read(value).map_err(|why| RequirementError::BaseImage {
            field: field(index),
            why: format!("{value:?} {why}: write sha256:…, host/repository@sha256:…, or a glob on host/repository"),
        })
    };
    spec.base_images.iter().enumerate().map(read).collect()
}

fn field(index: usize) -> String {
    format!("baseImages[{index}]")
}

impl BaseImage {
    fn read(value: &str) -> Result<Self, String> {
        if let Ok(digest) = value.parse() {
            return Ok(Self::Digest(digest));
        }
        if value.contains('@') {
            let image: ImageReference = value.parse().map_err(|_| "is no image by digest".to_owned())?;
            let digest = image.digest().cloned().ok_or("is no image by digest")?;
            return Ok(Self::Pinned { image, digest });
        }
        // A short name or a tag would match nothing, and nobody would see why.
        let last = value.rsplit('/').next().unwrap_or(value);
        if last.contains(':') {
            return Err("names a tag, which may be another image tomorrow".to_owned());
        }
        if !value.contains(['/', '*']) {
            return Err("has no host".to_owned());
        }
        image::glob(value)
            .map(|glob| Self::Named(glob.compile_matcher()))
            .map_err(|error| format!("is no glob ({error})"))
    }

    /// Whether an image that a provenance names is this one.
    pub(crate) fn is(&self, name: Option<&str>, by: &Sha256Digest) -> bool {
        match self {
            Self::Digest(digest) | Self::Pinned { digest, .. } => digest == by,
            Self::Named(glob) => name.is_some_and(|name| glob.is_match(name)),
        }
    }
}

impl fmt::Display for BaseImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Pinned { image, digest } => write!(f, "{}@{digest}", image.canonical()),
            Self::Named(glob) => f.write_str(glob.glob().glob()),
        }
    }
}
