//! The verifier: one conversation with a registry for equal questions, and a memory bound to digests.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use zastava_crds::digest::Sha256Digest;

use crate::{
    answer::{Unknown, UnknownCause},
    image::{ImageReference, Platforms},
    keychain::Keychain,
    registry::Registry,
    requirement::{PolicyRequirements, SignatureRequirement},
    sbom::SbomVerdict,
    verdict::{UnknownVerdict, Verdict},
};

/// An image whose tag was resolved, once: everything after speaks of this digest. Only the verifier makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resolved {
    image: ImageReference,
    digest: Sha256Digest,
}

impl Resolved {
    /// The reference as it was written.
    pub fn image(&self) -> &ImageReference {
        &self.image
    }

    /// The digest it stands for.
    pub fn digest(&self) -> &Sha256Digest {
        &self.digest
    }

    /// What a pod is pinned to: `tag@digest`.
    pub fn pinned(&self) -> String {
        self.image.pinned(&self.digest)
    }
}

/// Bounds of the verifier.
#[derive(Clone, Debug)]
pub struct VerifierSettings {
    /// How long a proof is remembered.
    pub proof_ttl: Duration,
    /// How long a refusal is remembered: short, so that a signature made now counts soon.
    pub refusal_ttl: Duration,
    /// How long an unknown is remembered, where the registry did not say.
    pub unknown_ttl: Duration,
    /// Verdicts remembered at most.
    pub max_verdicts: u64,
    /// Longest that one verification may take, whoever still waits.
    pub work_timeout: Duration,
}

impl Default for VerifierSettings {
    fn default() -> Self {
        Self {
            proof_ttl: Duration::from_secs(600),
            refusal_ttl: Duration::from_secs(5),
            unknown_ttl: Duration::from_secs(2),
            max_verdicts: 20_000,
            work_timeout: Duration::from_secs(60),
        }
    }
}

/// The verifier; cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    registry: Registry,
    settings: VerifierSettings,
}

impl Verifier {
    /// Over these registries.
    pub fn new(registry: Registry, settings: VerifierSettings) -> Self {
        Self { registry, settings }
    }

    /// The digest a reference stands for: its own, or what the registry says of its tag now. Never from memory.
    pub async fn resolve(
        &self,
        image: &ImageReference,
        keychain: &Keychain,
        deadline: Instant,
    ) -> Result<Resolved, Unknown> {
        let _ = (keychain, deadline, &self.registry, &self.settings);
        match image.digest() {
            Some(digest) => Ok(Resolved { image: image.clone(), digest: digest.clone() }),
            None => Err(Unknown::new(UnknownCause::Unsupported, "no registry is asked yet")),
        }
    }

    /// Whether an image satisfies a policy. Past `deadline` the answer is unknown, and the work goes on for the next who asks.
    pub async fn verify(
        &self,
        image: &Resolved,
        requirements: &Arc<PolicyRequirements>,
        platforms: &Platforms,
        keychain: &Keychain,
        deadline: Instant,
    ) -> Verdict {
        let _ = (image, requirements, platforms, keychain, deadline);
        Verdict::Unknown(not_yet())
    }

    /// The bill of materials of an image under the authorities of one entry of `signatures`.
    pub async fn sbom(
        &self,
        image: &Resolved,
        signed_by: &Arc<SignatureRequirement>,
        platforms: &Platforms,
        keychain: &Keychain,
        deadline: Instant,
    ) -> SbomVerdict {
        let _ = (image, signed_by, platforms, keychain, deadline);
        SbomVerdict::Unknown(not_yet())
    }
}

fn not_yet() -> UnknownVerdict {
    UnknownVerdict {
        digest: None,
        cause: UnknownCause::Unsupported,
        message: "no registry is asked yet".to_owned(),
        next_step: String::new(),
        retry_after: None::<Duration>,
    }
}
