//! The verification engine as admission uses it: a seam, so that decisions are tested without a registry.

use std::{future::Future, sync::Arc};

use tokio::time::Instant;
use zastava_crds::digest::{DigestKind, ImageDigest};
use zastava_verify::{
    answer::Unknown,
    image::{ImageReference, Platforms},
    keychain::Keychain,
    requirement::PolicyRequirements,
    verdict::{Proof, Refusal, UnknownVerdict, Verdict},
    verifier::{Resolved, Verifier},
};

/// What admission asks of a verification engine.
pub trait Engine: Send + Sync + 'static {
    /// What a pod's reference is to be pinned to.
    fn pin(
        &self,
        image: &ImageReference,
        keychain: &Keychain,
        deadline: Instant,
    ) -> impl Future<Output = Result<Pin, Unknown>> + Send;

    /// Whether an image satisfies a policy; without requirements, whether it can be resolved.
    fn examine(
        &self,
        image: &ImageReference,
        requirements: Option<&Arc<PolicyRequirements>>,
        platforms: &Platforms,
        keychain: &Keychain,
        deadline: Instant,
    ) -> impl Future<Output = Examined> + Send;
}

/// A reference with the digest that its registry gave. Only an engine makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    reference: String,
}

impl Pin {
    /// `tag@digest`, as it is written into a pod.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// For the tests of this crate.
    #[cfg(test)]
    pub fn for_tests(reference: &str) -> Self {
        Self { reference: reference.to_owned() }
    }
}

impl From<&Resolved> for Pin {
    fn from(resolved: &Resolved) -> Self {
        Self { reference: resolved.pinned() }
    }
}

/// What an engine says about one image under one policy.
#[derive(Clone, Debug)]
pub enum Examined {
    /// All that is asked was shown.
    Satisfied(Satisfied),
    /// The registry answered, and it does not satisfy the policy.
    Refused(Refusal),
    /// Nothing can be said.
    Unknown(UnknownVerdict),
}

/// That a digest satisfies a policy. Made from a proof, or where a policy asks for a digest alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Satisfied {
    digest: ImageDigest,
}

impl Satisfied {
    /// The digest that satisfies.
    pub fn digest(&self) -> &ImageDigest {
        &self.digest
    }

    /// For the tests of this crate.
    #[cfg(test)]
    pub fn for_tests(digest: ImageDigest) -> Self {
        Self { digest }
    }
}

impl From<&Proof> for Satisfied {
    fn from(proof: &Proof) -> Self {
        Self { digest: proof.digest().clone() }
    }
}

impl From<Verdict> for Examined {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Proven(proof) => Self::Satisfied(Satisfied::from(&proof)),
            Verdict::Refused(refusal) => Self::Refused(refusal),
            Verdict::Unknown(unknown) => Self::Unknown(unknown),
        }
    }
}

impl Engine for Verifier {
    async fn pin(&self, image: &ImageReference, keychain: &Keychain, deadline: Instant) -> Result<Pin, Unknown> {
        Ok(Pin::from(&self.resolve(image, keychain, deadline).await?))
    }

    async fn examine(
        &self,
        image: &ImageReference,
        requirements: Option<&Arc<PolicyRequirements>>,
        platforms: &Platforms,
        keychain: &Keychain,
        deadline: Instant,
    ) -> Examined {
        let resolved = match self.resolve(image, keychain, deadline).await {
            Ok(resolved) => resolved,
            Err(unknown) => return Examined::Unknown(unresolved(unknown)),
        };
        match requirements {
            Some(requirements) => self.verify(&resolved, requirements, platforms, keychain, deadline).await.into(),
            None => Examined::Satisfied(Satisfied {
                digest: ImageDigest { kind: DigestKind::Unresolved, digest: resolved.digest().clone() },
            }),
        }
    }
}

fn unresolved(unknown: Unknown) -> UnknownVerdict {
    UnknownVerdict {
        digest: None,
        cause: unknown.cause,
        message: unknown.message,
        next_step: unknown.cause.next_step().to_owned(),
        retry_after: unknown.retry_after,
    }
}
