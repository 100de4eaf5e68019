//! The verifier: one conversation with a registry for equal questions, and a memory bound to digests.

mod bases;
mod configs;
mod counts;
mod discoveries;
mod memory;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use jiff::Timestamp;
use moka::future::Cache;
use tokio::{sync::Semaphore, time::Instant};
use zastava_crds::digest::Sha256Digest;

pub use self::counts::Counts;
use self::memory::VerdictKey;
pub(crate) use self::{bases::Bases, discoveries::Discoveries};
use crate::{
    answer::{Unknown, UnknownCause},
    condition::Pool,
    image::{ImageReference, Platforms},
    keychain::Keychain,
    registry::{Registry, Repository, Scope},
    requirement::{PolicyRequirements, SignatureRequirement},
    sbom::SbomVerdict,
    verdict::{
        UnknownVerdict, Verdict,
        prove::{self, Subject},
    },
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

    fn name(&self) -> String {
        format!("{}@{}", self.image.canonical(), self.digest)
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
    /// Bytes of remembered verdicts at most; a verdict takes some 1.4 KiB.
    pub max_verdict_bytes: u64,
    /// Longest that one verification may take, whoever still waits.
    pub work_timeout: Duration,
    /// Verifications that run at once; more wait for their turn.
    pub concurrency: usize,
    /// Verifications that run or wait at once; more are answered unknown.
    pub max_waiting: usize,
    /// Evaluations of conditions at once.
    pub evaluations: usize,
    /// How long conditions wait for their turn; after that they are unknown.
    pub evaluation_patience: Duration,
    /// What time it is.
    pub now: fn() -> Timestamp,
}

impl Default for VerifierSettings {
    fn default() -> Self {
        Self {
            proof_ttl: Duration::from_mins(10),
            refusal_ttl: Duration::from_secs(5),
            unknown_ttl: Duration::from_secs(2),
            max_verdict_bytes: 8 * 1024 * 1024,
            work_timeout: Duration::from_mins(1),
            concurrency: 64,
            max_waiting: 1024,
            evaluations: 2,
            evaluation_patience: Duration::from_secs(2),
            now: Timestamp::now,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct TagKey {
    repository: String,
    scope: Scope,
    tag: String,
}

/// The verifier; cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    registry: Registry,
    settings: Arc<VerifierSettings>,
    verdicts: Cache<VerdictKey, Verdict>,
    tags: Cache<TagKey, Sha256Digest>,
    discoveries: Arc<Discoveries>,
    pool: Arc<Pool>,
    bases: Arc<Bases>,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    counts: Counts,
}

impl Verifier {
    /// Over these registries.
    pub fn new(registry: Registry, settings: VerifierSettings) -> Self {
        let settings = Arc::new(settings);
        Self {
            bases: Arc::new(Bases::new(registry.clone())),
            registry,
            verdicts: memory::verdicts(&settings),
            tags: Cache::builder().max_capacity(1024).time_to_live(Duration::from_secs(1)).build(),
            discoveries: Arc::new(Discoveries::new()),
            pool: Arc::new(Pool::new(settings.evaluations, settings.evaluation_patience)),
            running: Arc::new(Semaphore::new(settings.concurrency)),
            waiting: Arc::new(Semaphore::new(settings.max_waiting)),
            settings,
            counts: Counts::default(),
        }
    }

    /// What it counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The digest a reference stands for: its own, or what the registry says of its tag now. Equal questions in flight
    /// share one answer; it is not remembered.
    pub async fn resolve(
        &self,
        image: &ImageReference,
        keychain: &Keychain,
        deadline: Instant,
    ) -> Result<Resolved, Unknown> {
        if let Some(digest) = image.digest() {
            return Ok(Resolved { image: image.clone(), digest: digest.clone() });
        }
        let repository = self.registry.repository(image, keychain);
        let tag = image.tag().unwrap_or("latest").to_owned();
        let (base, scope) = repository.identity();
        let key = TagKey { repository: base, scope, tag: tag.clone() };
        let tags = self.tags.clone();
        let name = image.written().to_owned();
        let work = tokio::spawn(async move {
            let digest = tags.try_get_with(key.clone(), resolve_tag(&repository, &tag, &name).boxed()).await;
            tags.invalidate(&key).await;
            digest
        });
        match tokio::time::timeout_at(deadline, work).await {
            Ok(Ok(digest)) => {
                Ok(Resolved { image: image.clone(), digest: digest.map_err(|shared| (*shared).clone())? })
            }
            Ok(Err(_)) => Err(broken()),
            Err(_) => Err(Unknown::new(UnknownCause::Deadline, format!("{image}: its tag was not resolved in time"))),
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
        let repository = self.registry.repository(&image.image, keychain);
        let (base, scope) = repository.identity();
        let key = VerdictKey {
            digest: image.digest.clone(),
            repository: base,
            scope,
            policy: requirements.policy().clone(),
            platforms: platforms.clone(),
        };
        if let Some(verdict) = self.verdicts.get(&key).await {
            let holds = tokio::time::timeout_at(deadline, self.still_holds(&verdict)).await;
            match holds.unwrap_or_else(|_| Err(late(&image.name()))) {
                Ok(true) => {
                    self.counts.hits.inc();
                    return verdict;
                }
                Ok(false) => self.verdicts.invalidate(&key).await,
                Err(unknown) => return Verdict::Unknown(UnknownVerdict::of(verdict.digest().cloned(), unknown)),
            }
        }
        let (verifier, requirements) = (self.clone(), requirements.clone());
        let (image, platforms, keychain) = (image.clone(), platforms.clone(), keychain.clone());
        let name = image.name();
        let Ok(place) = self.waiting.clone().try_acquire_owned() else {
            return Verdict::Unknown(UnknownVerdict::of(None, busy(&name)));
        };
        let work = tokio::spawn(async move {
            let prove = async {
                verifier.counts.verifications.inc();
                // The subject is made in its turn: the time of the proof is read with it.
                let in_turn = async {
                    let subject = verifier.subject(&repository, &image, &platforms, &keychain);
                    prove::prove(&subject, &requirements).await
                };
                let work = verifier.bounded(&image, in_turn.boxed());
                work.await.unwrap_or_else(|unknown| Verdict::Unknown(UnknownVerdict::of(None, unknown)))
            };
            let entry = verifier.verdicts.entry(key.clone()).or_insert_with(prove.boxed()).await;
            let (is_own, verdict) = (entry.is_fresh(), entry.into_value());
            // Time went on while it was made, and who waited for another's has not asked its conditions.
            let holds = if is_own { Ok(!verifier.has_ended(&verdict)) } else { verifier.still_holds(&verdict).await };
            let verdict = match holds {
                Ok(true) => verdict,
                Ok(false) => {
                    verifier.verdicts.invalidate(&key).await;
                    Verdict::Unknown(UnknownVerdict::of(verdict.digest().cloned(), ended(&image.name())))
                }
                Err(unknown) => Verdict::Unknown(UnknownVerdict::of(verdict.digest().cloned(), unknown)),
            };
            drop(place);
            verdict
        });
        match tokio::time::timeout_at(deadline, work).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Verdict::Unknown(UnknownVerdict::of(None, broken())),
            Err(_) => Verdict::Unknown(UnknownVerdict::of(None, late(&name))),
        }
    }

    /// The bill of materials of an image under the authorities of one entry of `signatures`. It is not remembered: a
    /// scan asks once.
    pub async fn sbom(
        &self,
        image: &Resolved,
        signed_by: &Arc<SignatureRequirement>,
        platforms: &Platforms,
        keychain: &Keychain,
        deadline: Instant,
    ) -> SbomVerdict {
        let repository = self.registry.repository(&image.image, keychain);
        let in_turn = async { prove::sbom(&self.subject(&repository, image, platforms, keychain), signed_by).await };
        let work = self.bounded(image, in_turn.boxed());
        let unknown = match tokio::time::timeout_at(deadline, work).await {
            Ok(Ok(verdict)) => return verdict,
            Ok(Err(unknown)) => unknown,
            Err(_) => late(&image.name()),
        };
        SbomVerdict::Unknown(UnknownVerdict::of(None, unknown))
    }

    fn subject<'a>(
        &'a self,
        repository: &'a Repository,
        image: &'a Resolved,
        platforms: &'a Platforms,
        keychain: &'a Keychain,
    ) -> Subject<'a> {
        Subject {
            repository,
            discoveries: &self.discoveries,
            pool: &self.pool,
            bases: &self.bases,
            keychain,
            now: (self.settings.now)(),
            digest: &image.digest,
            platforms,
            name: image.name(),
        }
    }

    /// Whether a remembered verdict is still one: what depends on the time is looked at each time.
    async fn still_holds(&self, verdict: &Verdict) -> Result<bool, Unknown> {
        let Verdict::Proven(proof) = verdict else { return Ok(true) };
        if self.has_ended(verdict) {
            return Ok(false);
        }
        let now = (self.settings.now)();
        for live in proof.live() {
            if !live.holds(&self.pool, now).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a proof stopped to hold by itself.
    fn has_ended(&self, verdict: &Verdict) -> bool {
        let Verdict::Proven(proof) = verdict else { return false };
        proof.expires_at().is_some_and(|expiry| expiry <= (self.settings.now)())
    }

    /// Runs a verification in its turn and within its time.
    async fn bounded<T>(&self, image: &Resolved, work: impl Future<Output = T>) -> Result<T, Unknown> {
        let in_turn = async {
            let turn = self.running.acquire().await;
            let result = work.await;
            drop(turn);
            result
        };
        tokio::time::timeout(self.settings.work_timeout, in_turn).await.map_err(|_| late(&image.name()))
    }
}

async fn resolve_tag(repository: &Repository, tag: &str, name: &str) -> Result<Sha256Digest, Unknown> {
    let answer = repository.manifest_by_tag(tag).await;
    let content = answer.or_no_image(|| format!("{name}: no such image in the registry"))?;
    repository.remember(&content).await;
    Ok(content.digest)
}

fn late(name: &str) -> Unknown {
    Unknown::new(UnknownCause::Deadline, format!("{name} was not verified in time"))
}

fn busy(name: &str) -> Unknown {
    Unknown::new(UnknownCause::Busy, format!("{name} was not verified: too many verifications are waiting"))
}

fn ended(name: &str) -> Unknown {
    Unknown::new(UnknownCause::Busy, format!("{name}: its proof ended before it could be used"))
}

fn broken() -> Unknown {
    Unknown::new(UnknownCause::Busy, "a verification was cut off")
}
