//! Bills of materials as registries have them, under the policy's keys.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{Api, Client};
use moka::future::Cache;
use tokio::time::Instant;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    image::{ImageReference, Platform, Platforms},
    keychain::Keychain,
    requirement::ResolvedAuthority,
    sbom::{Judgement, SbomVerdict, VerifiedSbom},
    verdict::Refusal,
    verifier::Verifier,
};

use super::{
    delta::Delta,
    keys::Signers,
    outcome::Answer,
    source::{SbomSource, Unavailable},
};
use crate::policy::Policies;

/// Longest that one bill of materials may take.
const SBOM_TIMEOUT: Duration = Duration::from_mins(1);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Bills of materials that are kept for the scans that follow at once: each may be tens of MiB.
const KEPT: u64 = 2;
const KEPT_FOR: Duration = Duration::from_secs(30);
const NODES_KEPT: u64 = 10_000;
const NODES_KEPT_FOR: Duration = Duration::from_hours(1);
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// What a bill of materials is kept under.
type Key = (String, Platforms, String, Vec<Sha256Digest>);

#[derive(Clone)]
enum Read {
    Found(Arc<VerifiedSbom>),
    Refused(Refusal),
}

/// Bills of materials by the verification engine.
pub(super) struct RegistrySource {
    client: Client,
    namespace: String,
    policies: Policies,
    verifier: Verifier,
    pull_secrets: Vec<String>,
    kept: Cache<Key, Read>,
    platforms: Cache<String, Platforms>,
}

impl RegistrySource {
    pub(super) fn new(
        client: Client,
        namespace: String,
        policies: Policies,
        verifier: Verifier,
        pull_secrets: Vec<String>,
    ) -> Self {
        let kept = Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build();
        let platforms = Cache::builder().max_capacity(NODES_KEPT).time_to_live(NODES_KEPT_FOR).build();
        Self { client, namespace, policies, verifier, pull_secrets, kept, platforms }
    }

    async fn sbom(&self, pinned: &ImageReference, signers: &Signers, node: Option<&str>) -> Result<Read, Unavailable> {
        let requirement = signers.requirement(&self.client, &self.namespace).await?;
        let platforms = self.platforms(node).await;
        let fingerprints = requirement.authorities().iter().map(ResolvedAuthority::fingerprint).collect();
        let key = (pinned.written().to_owned(), platforms.clone(), requirement.name().to_owned(), fingerprints);
        let fetch = async {
            let keychain = self.keychain().await;
            let deadline = Instant::now() + SBOM_TIMEOUT;
            let unknown = |message: String, category, retry_after| Unavailable { category, message, retry_after };
            let resolved = self
                .verifier
                .resolve(pinned, &keychain, deadline)
                .await
                .map_err(|error| unknown(error.message, error.cause.category(), error.retry_after))?;
            match self.verifier.sbom(&resolved, &requirement, &platforms, &keychain, deadline).await {
                SbomVerdict::Found(sbom) => Ok(Read::Found(sbom)),
                SbomVerdict::Refused(refusal) => Ok(Read::Refused(refusal)),
                SbomVerdict::Unknown(u) => {
                    Err(unknown(format!("{}: {}", u.message, u.next_step), u.cause.category(), u.retry_after))
                }
            }
        };
        self.kept.try_get_with(key, fetch).await.map_err(Arc::unwrap_or_clone)
    }

    /// The platform of the node it ran on: other children of an index hold other files. Any, while that is not known.
    async fn platforms(&self, node: Option<&str>) -> Platforms {
        let Some(name) = node else { return Platforms::Any };
        if let Some(known) = self.platforms.get(name).await {
            return known;
        }
        let api: Api<Node> = Api::all(self.client.clone());
        let node = tokio::time::timeout(READ_TIMEOUT, api.get_opt(name)).await;
        let info = node.ok().and_then(Result::ok).flatten().and_then(|node| node.status?.node_info);
        let Some(info) = info else { return Platforms::Any };
        let platforms = Platforms::of([Platform { os: info.operating_system, architecture: info.architecture }]);
        self.platforms.insert(name.to_owned(), platforms.clone()).await;
        platforms
    }

    /// The configured credentials; one that can't be read is as good as none, and the registry says so.
    async fn keychain(&self) -> Keychain {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut keychain = Keychain::default();
        for name in &self.pull_secrets {
            let secret = tokio::time::timeout(READ_TIMEOUT, api.get_opt(name)).await;
            let config = match secret {
                Ok(Ok(secret)) => secret.and_then(|secret| secret.data?.remove(DOCKER_CONFIG)),
                Ok(Err(error)) => {
                    tracing::warn!(secret = name, %error, "credentials of a registry can't be read");
                    None
                }
                Err(_) => None,
            };
            match config.map(|config| Keychain::from_docker_config(&config.0)).transpose() {
                Ok(more) => {
                    let more = more.unwrap_or_default();
                    if let Some(ignored) = more.ignored() {
                        tracing::warn!(secret = name, "{ignored}");
                    }
                    keychain = keychain.merged(&more);
                }
                Err(error) => {
                    tracing::warn!(secret = name, %error, category = error.category(), "credentials can't be read");
                }
            }
        }
        keychain
    }
}

impl SbomSource for RegistrySource {
    async fn judge(&self, delta: &Delta, node: Option<&str>) -> Result<Answer, Unavailable> {
        let silent = |why: &str| Ok(Answer::Silent(why.to_owned()));
        let Some(sha256) = &delta.sha256 else {
            return silent("the content that ran could not be read, so there is nothing to compare");
        };
        let (Some(image), Some(digest)) = (&delta.image, &delta.digest) else {
            return silent("the digest of the running image is not known, so there is no SBOM to look for");
        };
        let Some(signers) = Signers::of(&self.policies.all(), &delta.policies) else {
            return silent(
                "no policy of this finding says whose SBOM counts: set spec.admission.signatures, and \
                 spec.admission.sbom.signedBy if there are several",
            );
        };
        // As written it may name a tag: the digest that ran is what is asked for.
        let Some(pinned) = ImageReference::from_str(image)
            .ok()
            .and_then(|image| ImageReference::from_str(&format!("{}@{digest}", image.canonical())).ok())
        else {
            return silent("the reference of the running image can't be read");
        };
        Ok(match self.sbom(&pinned, &signers, node).await? {
            Read::Refused(refusal) => Answer::Silent(format!(
                "no SBOM signed by signatures[{}] of policy {}: {}; {}",
                signers.name(),
                signers.policy,
                refusal.found,
                refusal.next_step
            )),
            Read::Found(sbom) => match sbom.sbom().judge(&delta.path, sha256) {
                Judgement::Known { component, listed_at } => Answer::Known { component, listed_at },
                Judgement::Modified { component, expected } => Answer::Modified { component, expected },
                Judgement::Unknown => Answer::Unknown,
                Judgement::NoFiles => Answer::Silent(format!(
                    "the SBOM signed by signatures[{}] of policy {} lists no files with SHA-256: make one that does",
                    signers.name(),
                    signers.policy
                )),
            },
        })
    }
}
