//! What an image must prove, with keys and trust roots already parsed: a requirement that asks nothing can't be built.

use std::collections::BTreeSet;

use zastava_crds::{
    digest::Sha256Digest,
    policy::{AdmissionSpec, SbomFormat},
};

pub use self::{
    attestation::AttestationRequirement,
    authority::{AuthorityKind, ResolvedAuthority, Signer},
    base::{BaseImage, BaseImages},
    identity::{Identity, IdentityError, Subject},
    key::{KeyError, PublicKey},
    store::{Inline, TrustStore},
    trust_root::{MAX_TRUST_ROOT, TrustRoot, TrustRootError},
};
pub(crate) use self::{
    identity::shown,
    threshold::{Signers, standing},
};

mod attestation;
mod authority;
mod base;
mod identity;
mod key;
mod resolve;
mod store;
mod threshold;
mod trust_root;

/// The policy that asks, as a verdict is bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyIdentity {
    /// Name of the ZastavaPolicy.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Hash of what its references resolved to: a rotated key or trust root must not meet an old verdict.
    keys: Sha256Digest,
}

impl PolicyIdentity {
    /// Hash over all keys, identities and trust roots of the policy.
    pub fn keys(&self) -> &Sha256Digest {
        &self.keys
    }
}

/// One entry of `signatures`: at least one authority, and a threshold that distinct authorities can reach.
#[derive(Clone, Debug)]
pub struct SignatureRequirement {
    name: String,
    authorities: Vec<ResolvedAuthority>,
    threshold: usize,
}

/// The `sbom` of a policy, when it is required.
#[derive(Clone, Debug)]
pub struct SbomRequirement {
    /// Formats that are accepted; empty: all.
    pub formats: Vec<SbomFormat>,
    /// Who must have signed it.
    pub signed_by: SignatureRequirement,
    /// Oldest that is accepted.
    pub max_age: Option<std::time::Duration>,
}

/// All that one policy asks of an image; never nothing.
#[derive(Clone, Debug)]
pub struct PolicyRequirements {
    policy: PolicyIdentity,
    signatures: Vec<SignatureRequirement>,
    sbom: Option<SbomRequirement>,
    attestations: Vec<AttestationRequirement>,
    base_images: Option<BaseImages>,
}

/// Why a policy's `admission` can't be made into requirements.
#[derive(Debug, thiserror::Error)]
pub enum RequirementError {
    /// A key can't be had or read.
    #[error("{field}: {why}")]
    Key {
        /// Path of the field under `spec.admission`.
        field: String,
        /// What is wrong with it, and the fix.
        why: String,
    },
    /// An identity that names nobody, or everybody.
    #[error("{field}: {why}")]
    Identity {
        /// Path of the field under `spec.admission`.
        field: String,
        /// What is wrong with it, and the fix.
        why: String,
    },
    /// A trust root can't be had, read or used.
    #[error("{field}: {why}")]
    TrustRoot {
        /// Path of the field under `spec.admission`.
        field: String,
        /// What is wrong with it, and the fix.
        why: String,
    },
    /// Fewer distinct keys and identities than the threshold asks for.
    #[error("signatures[{name}]: threshold {threshold} can't be reached with {keys} distinct keys and identities")]
    Threshold {
        /// Name of the entry.
        name: String,
        /// As written.
        threshold: usize,
        /// Distinct keys and identities.
        keys: usize,
    },
    /// `signedBy` names no entry.
    #[error("{field}.signedBy: {name:?} is not the name of an entry of signatures")]
    SignedBy {
        /// Path of the field under `spec.admission`, without `signedBy`.
        field: String,
        /// As written.
        name: String,
    },
    /// A condition that can't be compiled.
    #[error("{field} {why}")]
    Condition {
        /// Path of the field under `spec.admission`.
        field: String,
        /// What is wrong with it, and the fix.
        why: String,
    },
    /// A base image that can't be shown.
    #[error("{field} {why}")]
    BaseImage {
        /// Path of the field under `spec.admission`.
        field: String,
        /// What is wrong with it, and the fix.
        why: String,
    },
    /// A duration that does not parse.
    #[error("{field}: {value:?} is not a duration such as 720h")]
    Duration {
        /// Path of the field under `spec.admission`.
        field: String,
        /// As written.
        value: String,
    },
}

impl RequirementError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Key { .. } => "key",
            Self::Identity { .. } => "identity",
            Self::TrustRoot { .. } => "trust_root",
            Self::Threshold { .. } => "threshold",
            Self::SignedBy { .. } => "signed_by",
            Self::Condition { .. } => "condition",
            Self::BaseImage { .. } => "base_image",
            Self::Duration { .. } => "duration",
        }
    }
}

impl SignatureRequirement {
    /// A requirement that `threshold` distinct ones among `authorities` have signed.
    pub fn new(
        name: impl Into<String>,
        authorities: Vec<ResolvedAuthority>,
        threshold: usize,
    ) -> Result<Self, RequirementError> {
        let name = name.into();
        let distinct: BTreeSet<_> = authorities.iter().map(ResolvedAuthority::who).collect();
        if threshold == 0 || distinct.len() < threshold {
            return Err(RequirementError::Threshold { name, threshold, keys: distinct.len() });
        }
        Ok(Self { name, authorities, threshold })
    }

    /// Name of the entry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who may sign; never empty.
    pub fn authorities(&self) -> &[ResolvedAuthority] {
        &self.authorities
    }

    /// How many distinct authorities must have signed; never 0.
    pub fn threshold(&self) -> usize {
        self.threshold
    }
}

impl PolicyRequirements {
    /// From a policy's `admission`, with what it refers to looked up in `store`. `None`: this policy asks for no proof (it
    /// may still ask for a digest).
    pub fn from_spec(
        name: &str,
        uid: &str,
        generation: i64,
        spec: &AdmissionSpec,
        store: &impl TrustStore,
    ) -> Result<Option<Self>, RequirementError> {
        let mut signatures = Vec::with_capacity(spec.signatures.len());
        for entry in &spec.signatures {
            let field = |a| format!("signatures[{}].authorities[{a}]", entry.name);
            let authorities = entry.authorities.iter().enumerate();
            let authorities = authorities.map(|(a, one)| resolve::authority(&field(a), one, store));
            let authorities = authorities.collect::<Result<_, _>>()?;
            let threshold = usize::try_from(entry.threshold).unwrap_or(usize::MAX);
            signatures.push(SignatureRequirement::new(&entry.name, authorities, threshold)?);
        }
        let sbom = match &spec.sbom {
            Some(sbom) if sbom.required => {
                let signed_by = named(&signatures, sbom.signed_by.as_deref(), "sbom")?;
                let max_age = sbom.max_age.as_deref().map(parse_age).transpose()?;
                Some(SbomRequirement { formats: sbom.formats.clone(), signed_by: signed_by.clone(), max_age })
            }
            _ => None,
        };
        let attestations = spec.attestations.iter().enumerate();
        let attestations = attestations
            .map(|(index, attestation)| AttestationRequirement::from_spec(index, attestation, &signatures))
            .collect::<Result<Vec<_>, _>>()?;
        let base_images = BaseImages::from_spec(spec, &signatures, &attestations)?;
        if signatures.is_empty() && sbom.is_none() && base_images.is_none() {
            return Ok(None);
        }
        let keys = keys_hash(&signatures);
        let policy = PolicyIdentity { name: name.to_owned(), uid: uid.to_owned(), generation, keys };
        Ok(Some(Self { policy, signatures, sbom, attestations, base_images }))
    }

    /// The policy that asks.
    pub fn policy(&self) -> &PolicyIdentity {
        &self.policy
    }

    /// Signatures that must be there, each of them.
    pub fn signatures(&self) -> &[SignatureRequirement] {
        &self.signatures
    }

    /// The bill of materials that must be there.
    pub fn sbom(&self) -> Option<&SbomRequirement> {
        self.sbom.as_ref()
    }

    /// Attestations that must be there, each of them.
    pub fn attestations(&self) -> &[AttestationRequirement] {
        &self.attestations
    }

    /// Base images one of which it must be built on.
    pub fn base_images(&self) -> Option<&BaseImages> {
        self.base_images.as_ref()
    }
}

/// What of a policy's `admission` can be checked without its keys, and by no schema: conditions and base images.
pub fn check(spec: &AdmissionSpec) -> Result<(), RequirementError> {
    attestation::check(spec)?;
    base::parse(spec).map(drop)
}

/// The entry that a `signedBy` names; absent, it is the only one.
fn named<'a>(
    signatures: &'a [SignatureRequirement],
    name: Option<&str>,
    field: &str,
) -> Result<&'a SignatureRequirement, RequirementError> {
    let unknown = || RequirementError::SignedBy { field: field.to_owned(), name: name.unwrap_or_default().to_owned() };
    match (name, signatures) {
        (Some(name), all) => all.iter().find(|entry| entry.name == *name).ok_or_else(unknown),
        (None, [only]) => Ok(only),
        (None, _) => Err(unknown()),
    }
}

fn parse_age(value: &str) -> Result<std::time::Duration, RequirementError> {
    value
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|age| std::time::Duration::try_from(age).ok())
        .ok_or_else(|| RequirementError::Duration { field: "sbom.maxAge".to_owned(), value: value.to_owned() })
}

fn keys_hash(signatures: &[SignatureRequirement]) -> Sha256Digest {
    let mut text = String::new();
    for signature in signatures {
        text.extend([signature.name.as_str(), "\n", &signature.threshold.to_string(), "\n"]);
        for authority in &signature.authorities {
            text.push_str(authority.fingerprint().as_str());
            text.push('\n');
        }
    }
    Sha256Digest::of(text.as_bytes())
}
