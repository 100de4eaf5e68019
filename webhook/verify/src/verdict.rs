//! Verdicts: a positive proof, a refusal with its evidence, or unknown. An error is neither a pass nor a "no signature".

mod explain;
pub(crate) mod prove;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use zastava_crds::digest::ImageDigest;

pub use crate::answer::UnknownCause;
use crate::requirement::PolicyIdentity;
use crate::{answer::Unknown, condition::Live};

/// The answer for one image under one policy.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Everything the policy asks was shown.
    Proven(Proof),
    /// The registry answered, and what is there does not satisfy the policy.
    Refused(Refusal),
    /// Nothing can be said.
    Unknown(UnknownVerdict),
}

impl Verdict {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Proven(_) => "proven",
            Self::Refused(refusal) => refusal.reason.into(),
            Self::Unknown(unknown) => unknown.cause.into(),
        }
    }

    /// The digest the verdict is about, if it came that far.
    pub fn digest(&self) -> Option<&ImageDigest> {
        match self {
            Self::Proven(proof) => Some(proof.digest()),
            Self::Refused(refusal) => refusal.digest.as_ref(),
            Self::Unknown(unknown) => unknown.digest.as_ref(),
        }
    }
}

/// Proof that an image satisfies a policy. Only the verifier makes one, and only out of matched evidence.
#[derive(Clone, Debug)]
pub struct Proof {
    inner: Arc<ProofInner>,
}

#[derive(Debug)]
struct ProofInner {
    digest: ImageDigest,
    policy: PolicyIdentity,
    evidence: Vec<Evidence>,
    proven_at: Timestamp,
    expires_at: Option<Timestamp>,
    live: Vec<Live>,
}

impl Proof {
    fn of(
        digest: ImageDigest,
        policy: PolicyIdentity,
        evidence: Vec<Evidence>,
        proven_at: Timestamp,
        expires_at: Option<Timestamp>,
        live: Vec<Live>,
    ) -> Self {
        Self { inner: Arc::new(ProofInner { digest, policy, evidence, proven_at, expires_at, live }) }
    }

    /// The digest that was proven, with its kind.
    pub fn digest(&self) -> &ImageDigest {
        &self.inner.digest
    }

    /// The policy whose requirements it satisfies.
    pub fn policy(&self) -> &PolicyIdentity {
        &self.inner.policy
    }

    /// What was matched: at least one entry a requirement.
    pub fn evidence(&self) -> &[Evidence] {
        &self.inner.evidence
    }

    /// When.
    pub fn proven_at(&self) -> Timestamp {
        self.inner.proven_at
    }

    /// What must still hold whenever it is used again.
    pub(crate) fn live(&self) -> &[Live] {
        &self.inner.live
    }

    /// When it stops to hold by itself, because a bill of materials becomes too old.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.inner.expires_at
    }
}

/// What satisfied one requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The requirement, such as `signatures[release]`, `sbom` or `attestations[https://slsa.dev/provenance/v1]`.
    pub requirement: String,
    /// What it is attached to: the image itself, or a platform's child of its index.
    pub subject: ImageDigest,
    /// Who signed, by the labels of the authorities; of a base image that was told by its layers, those.
    pub signed_by: Vec<String>,
}

/// Why an image is refused: all that a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The image, if it could be resolved.
    pub digest: Option<ImageDigest>,
    /// The requirement that was not met, such as `signatures[release]` or `sbom`.
    pub requirement: String,
    /// The closed class.
    pub reason: RefusalReason,
    /// What was found instead, such as "no signature" or "2 signatures, none by an accepted key".
    pub found: String,
    /// What to do.
    pub next_step: String,
}

/// Why an image is refused, from a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RefusalReason {
    /// Nothing is attached that could be a signature.
    NoSignature,
    /// Signatures are there, none satisfies the requirement.
    NoMatchingSignature,
    /// Fewer distinct authorities signed than the threshold asks.
    BelowThreshold,
    /// No signed bill of materials.
    NoSbom,
    /// There is one, but not under the named authorities.
    NoMatchingSbom,
    /// There is one, of a format or version that is not accepted or can't be read.
    UnsupportedSbom,
    /// There is one, older than the policy allows or of no known age.
    StaleSbom,
    /// No signed attestation of the type that is asked.
    NoAttestation,
    /// There is one, but not under the named authorities.
    NoMatchingAttestation,
    /// There is one, too large or of a form that conditions can't be evaluated over.
    UnsupportedAttestation,
    /// There is one, and a condition does not hold over it.
    ConditionNotMet,
    /// It is not shown to be built on a base image that the policy names.
    UnknownBaseImage,
    /// The index has no image for any platform of the cluster.
    NoPlatform,
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVerdict {
    /// The image, if it could be resolved.
    pub digest: Option<ImageDigest>,
    /// The closed class.
    pub cause: UnknownCause,
    /// What happened.
    pub message: String,
    /// What to do.
    pub next_step: String,
    /// When to ask again, if the registry said so.
    pub retry_after: Option<Duration>,
}

impl UnknownVerdict {
    pub(crate) fn of(digest: Option<ImageDigest>, unknown: Unknown) -> Self {
        let Unknown { cause, message, retry_after } = unknown;
        Self { digest, cause, message, next_step: cause.next_step().to_owned(), retry_after }
    }
}
