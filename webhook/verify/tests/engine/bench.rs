//! A verifier over the double, a policy, and what came of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    answer::{Unknown, UnknownCause},
    image::{ImageReference, Platform, Platforms},
    keychain::Keychain,
    registry::{Registry, RegistrySettings},
    requirement::{Inline, PolicyRequirements},
    sbom::SbomVerdict,
    verdict::{Proof, Refusal, RefusalReason, UnknownVerdict, Verdict},
    verifier::{Resolved, Verifier, VerifierSettings},
};

use super::{double::Double, signer::Signer};

/// The repository of all images.
pub const REPOSITORY: &str = "team/app";

pub struct Bench {
    pub double: Double,
    pub verifier: Verifier,
    pub keychain: Keychain,
    pub platforms: Platforms,
}

impl Bench {
    pub async fn new() -> Self {
        let double = Double::start().await;
        let verifier = verifier(&[&double.host]);
        Self { double, verifier, keychain: Keychain::default(), platforms: Platforms::Any }
    }

    pub fn on(mut self, platforms: &[&str]) -> Self {
        self.platforms = Platforms::of(platforms.iter().map(|platform| {
            let (os, architecture) = platform.split_once('/').unwrap();
            Platform { os: os.to_owned(), architecture: architecture.to_owned() }
        }));
        self
    }

    /// Nothing is remembered any more.
    pub fn forget(&mut self) {
        self.verifier = verifier(&[&self.double.host]);
    }

    pub fn image(&self, reference: &str) -> ImageReference {
        format!("{}/{REPOSITORY}{reference}", self.double.host).parse().unwrap()
    }

    pub async fn resolve(&self, reference: &str) -> Result<Resolved, Unknown> {
        self.verifier.resolve(&self.image(reference), &self.keychain, soon()).await
    }

    pub async fn verify(&self, digest: &Sha256Digest, policy: &Arc<PolicyRequirements>) -> Verdict {
        let image = self.resolve(&format!("@{digest}")).await.unwrap();
        self.verifier.verify(&image, policy, &self.platforms, &self.keychain, soon()).await
    }

    pub async fn proven(&self, digest: &Sha256Digest, policy: &Arc<PolicyRequirements>) -> Proof {
        match self.verify(digest, policy).await {
            Verdict::Proven(proof) => proof,
            other => panic!("{other:?}"),
        }
    }

    pub async fn refused(&self, digest: &Sha256Digest, policy: &Arc<PolicyRequirements>) -> Refusal {
        match self.verify(digest, policy).await {
            Verdict::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Asserts a refusal for a reason, whose text says what was found.
    pub async fn refused_for(&self, digest: &Sha256Digest, signer: &Signer, reason: RefusalReason, found: &str) {
        let refusal = self.refused(digest, &signed_by(signer)).await;
        assert_eq!(refusal.reason, reason, "{refusal:?}");
        assert!(refusal.found.contains(found), "{refusal:?}");
        assert_eq!(refusal.digest.map(|d| d.digest).as_ref(), Some(digest));
    }

    pub async fn unknown(&self, digest: &Sha256Digest, policy: &Arc<PolicyRequirements>) -> UnknownVerdict {
        match self.verify(digest, policy).await {
            Verdict::Unknown(unknown) => unknown,
            other => panic!("{other:?}"),
        }
    }

    pub async fn unknown_for(&self, digest: &Sha256Digest, signer: &Signer, cause: UnknownCause) {
        let unknown = self.unknown(digest, &signed_by(signer)).await;
        assert_eq!(unknown.cause, cause, "{unknown:?}");
    }

    pub async fn sbom(&self, digest: &Sha256Digest, policy: &Arc<PolicyRequirements>) -> SbomVerdict {
        let image = self.resolve(&format!("@{digest}")).await.unwrap();
        let entry = Arc::new(policy.signatures()[0].clone());
        self.verifier.sbom(&image, &entry, &self.platforms, &self.keychain, soon()).await
    }
}

/// A verifier for which these hosts are configured, over plain HTTP.
pub fn verifier(hosts: &[&str]) -> Verifier {
    verifier_with(hosts, VerifierSettings::default())
}

/// Such a verifier with bounds, or a time, of its own.
pub fn verifier_with(hosts: &[&str], bounds: VerifierSettings) -> Verifier {
    let settings = hosts.iter().map(|host| RegistrySettings {
        host: (*host).to_owned(),
        plain_http: true,
        ca_pem: None,
        mirror: None,
        credentials: None,
    });
    Verifier::new(Registry::new(settings.collect(), &[]).unwrap(), bounds)
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A policy from the `admission` of its spec; each is a generation of its own, as the API server would have it.
pub fn policy(admission: Value) -> Arc<PolicyRequirements> {
    static GENERATION: AtomicI64 = AtomicI64::new(2);
    generation(GENERATION.fetch_add(1, Ordering::Relaxed), admission)
}

/// A policy of a generation.
pub fn generation(generation: i64, admission: Value) -> Arc<PolicyRequirements> {
    let spec = serde_json::from_value(admission).unwrap();
    Arc::new(PolicyRequirements::from_spec("policy", "uid", generation, &spec, &Inline).unwrap().unwrap())
}

/// One entry `release` of these signers.
pub fn release(signers: &[&Signer], threshold: u32) -> Value {
    let authorities: Vec<_> = signers.iter().map(|signer| json!({"key": {"pem": signer.pem()}})).collect();
    json!([{"name": "release", "authorities": authorities, "threshold": threshold}])
}

/// A policy that asks for one signature.
pub fn signed_by(signer: &Signer) -> Arc<PolicyRequirements> {
    policy(json!({"signatures": release(&[signer], 1)}))
}
