//! The seam to registries, and the engine behind it.

use std::{future::Future, num::NonZeroU32, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use moka::future::Cache;
use tokio::{sync::watch, time::Instant};
use zastava_core::backend::{
    terms::{Lack, REQUIREMENT, Terms, Weighed},
    verdicts::{Told, Verdicts},
};
use zastava_crds::{
    digest::{DigestKind, ImageDigest, Sha256Digest},
    wire::event::Severity,
};
use zastava_verify::{
    answer::{Answer, Unknown},
    image::{ImageReference, Platforms},
    keychain::Keychain,
    verdict::{Refusal, RefusalReason, UnknownCause, UnknownVerdict, Verdict},
    verifier::Verifier,
};

use super::{
    answers::{Doubt, Question, Violation, Word},
    running::Running,
    survey::Asked,
};

/// Checks in a second at most: what runs is in no hurry, and registries count requests.
const CHECKS: NonZeroU32 = NonZeroU32::MIN.saturating_add(7);
/// Longest that one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_mins(1);
/// Images that were found by their configuration: what a tag once named is what the node pulled, wherever it goes.
const MATCHED: u64 = 10_000;

/// Who says whether a running image satisfies a policy.
pub(super) trait Examiner: Send + Sync + 'static {
    /// The word, and its closed class for metrics.
    fn examine(&self, question: &Question, asked: &Asked) -> impl Future<Output = (Word, &'static str)> + Send;
}

/// What all steps of one check share.
#[derive(Clone, Copy)]
struct About<'a> {
    asked: &'a Asked,
    platforms: &'a Platforms,
    keychain: &'a Keychain,
    deadline: Instant,
}

/// An image that satisfies what is to be proven.
struct Standing {
    digest: Option<ImageDigest>,
    until: Option<Timestamp>,
}

/// Registries, asked by the verification engine, and the backend beside them.
pub(super) struct Registries {
    verifier: Verifier,
    backend: Verdicts,
    keychain: watch::Receiver<Option<Keychain>>,
    turns: DefaultDirectRateLimiter,
    matched: Cache<(ImageReference, Sha256Digest), ImageReference>,
}

impl Registries {
    pub(super) fn new(verifier: Verifier, backend: Verdicts, keychain: watch::Receiver<Option<Keychain>>) -> Self {
        let turns = RateLimiter::direct(Quota::per_second(CHECKS));
        Self { verifier, backend, keychain, turns, matched: Cache::builder().max_capacity(MATCHED).build() }
    }

    /// Of the credentials that could be read once; all others are as good as none, and the registry says so.
    async fn keychain(&self, deadline: Instant) -> Keychain {
        let mut keychain = self.keychain.clone();
        let read = tokio::time::timeout_at(deadline, keychain.wait_for(Option::is_some)).await;
        read.ok().and_then(Result::ok).and_then(|keychain| keychain.clone()).unwrap_or_default()
    }

    /// Whether an image satisfies what is to be proven: with its digest, and until when that holds.
    async fn proven(&self, image: &ImageReference, about: About<'_>) -> Result<Standing, Verdict> {
        let Some(requirements) = about.asked.proof.as_ref() else {
            let digest = image.digest().cloned();
            let digest = digest.map(|digest| ImageDigest { kind: DigestKind::Unresolved, digest });
            return Ok(Standing { digest, until: None });
        };
        let About { platforms, keychain, deadline, .. } = about;
        let resolved = self.verifier.resolve(image, keychain, deadline).await.map_err(unknown)?;
        match self.verifier.verify(&resolved, requirements, platforms, keychain, deadline).await {
            Verdict::Proven(proof) => Ok(Standing { digest: Some(proof.digest().clone()), until: proof.expires_at() }),
            verdict => Err(verdict),
        }
    }

    /// What is to be asked about, and whether it is proven.
    async fn standing(&self, running: &Running, about: About<'_>) -> Result<Standing, Verdict> {
        match running {
            Running::Digest { at, or } => match (self.proven(at, about).await, or) {
                (Err(Verdict::Unknown(UnknownVerdict { cause: UnknownCause::ImageNotFound, .. })), Some(or)) => {
                    self.proven(or, about).await
                }
                (standing, _) => standing,
            },
            Running::Config { named, config } => {
                let pinned = self.by_config(named, config, about).await.map_err(unknown)?;
                self.proven(&pinned, about).await
            }
            Running::Unknown(why) => Err(unknown(Unknown::new(UnknownCause::Unsupported, *why))),
        }
    }

    /// The backend's word on a digest that is proven, as the policy weighs it.
    async fn word(&self, terms: &Terms, standing: Standing, deadline: Instant) -> (Word, &'static str) {
        let Some(digest) = standing.digest else {
            let doubt = Doubt {
                message: "its digest is not known, so the backend can't be asked".to_owned(),
                next_step: "name the image by its digest".to_owned(),
                retry_after: None,
            };
            return (Word::Unknown(doubt), "verdict_open");
        };
        let told = self.backend.ask(&digest, deadline).await;
        match terms.weigh(&told, Timestamp::now()) {
            Weighed::Accepted(_) => (Word::Satisfied { until: standing.until }, "proven"),
            Weighed::Refused(Lack { found, next_step }) => {
                let (severity, requirement) = (Severity::High, REQUIREMENT.to_owned());
                let violation = Violation { severity, digest: Some(digest), requirement, found, next_step };
                (Word::Violated(violation), "verdict_refused")
            }
            Weighed::Open(lack) => (open(&told, lack), "verdict_open"),
        }
    }

    /// The image that a reference names, if it is the one with this configuration.
    async fn by_config(
        &self,
        named: &ImageReference,
        config: &Sha256Digest,
        about: About<'_>,
    ) -> Result<ImageReference, Unknown> {
        let About { platforms, keychain, deadline, .. } = about;
        let key = (named.clone(), config.clone());
        if let Some(known) = self.matched.get(&key).await {
            return Ok(known);
        }
        let resolved = self.verifier.resolve(named, keychain, deadline).await?;
        match self.verifier.has_config(&resolved, config, platforms, keychain, deadline).await {
            Answer::Found(()) => {
                let pinned = format!("{}@{}", named.canonical(), resolved.digest());
                let pinned: ImageReference = pinned
                    .parse()
                    .map_err(|error| Unknown::new(UnknownCause::Unsupported, format!("{pinned}: {error}")))?;
                self.matched.insert(key, pinned.clone()).await;
                Ok(pinned)
            }
            Answer::None => Err(Unknown::new(
                UnknownCause::ImageNotFound,
                format!(
                    "{named} names another image by now than the one that runs ({config}): it can't be said which that is"
                ),
            )),
            Answer::Unknown(unknown) => Err(unknown),
        }
    }
}

impl Examiner for Registries {
    async fn examine(&self, question: &Question, asked: &Asked) -> (Word, &'static str) {
        self.turns.until_ready().await;
        let deadline = Instant::now() + CHECK_TIMEOUT;
        let keychain = self.keychain(deadline).await;
        let about = About { asked, platforms: &question.platforms, keychain: &keychain, deadline };
        match (self.standing(&question.running, about).await, &asked.verdict) {
            (Ok(standing), Some(terms)) => self.word(terms, standing, deadline).await,
            (Ok(standing), None) => (Word::Satisfied { until: standing.until }, "proven"),
            (Err(verdict), _) => {
                let category = verdict.category();
                (verdict.into(), category)
            }
        }
    }
}

impl From<Verdict> for Word {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Proven(proof) => Self::Satisfied { until: proof.expires_at() },
            Verdict::Refused(Refusal { digest, requirement, reason, found, next_step }) => {
                Self::Violated(Violation { severity: severity(reason), digest, requirement, found, next_step })
            }
            Verdict::Unknown(UnknownVerdict { message, next_step, retry_after, .. }) => {
                Self::Unknown(Doubt { message, next_step, retry_after })
            }
        }
    }
}

/// Not approved is not refused, and a backend that is away says nothing: it alone is asked again soon.
fn open(told: &Told, Lack { found, next_step }: Lack) -> Word {
    let doubt = Doubt { message: found, next_step, retry_after: None };
    match told {
        Told::Now(_) => Word::Open(doubt),
        Told::Unavailable { .. } => Word::Unknown(doubt),
    }
}

/// Whoever's image it is comes before what is said to be in it.
fn severity(reason: RefusalReason) -> Severity {
    match reason {
        RefusalReason::NoSbom
        | RefusalReason::NoMatchingSbom
        | RefusalReason::UnsupportedSbom
        | RefusalReason::StaleSbom
        | RefusalReason::NoPlatform => Severity::Medium,
        _ => Severity::High,
    }
}

fn unknown(unknown: Unknown) -> Verdict {
    Verdict::Unknown(UnknownVerdict {
        digest: None,
        cause: unknown.cause,
        message: unknown.message,
        next_step: unknown.cause.next_step().to_owned(),
        retry_after: unknown.retry_after,
    })
}
