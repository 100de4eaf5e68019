//! From what a registry has to a verdict. An index satisfies an ask if it does so itself, or if each runnable child for
//! a platform among those asked does.

use std::pin::pin;

use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use zastava_crds::digest::{ImageDigest, Sha256Digest};

use super::{Evidence, Proof, Refusal, RefusalReason, UnknownVerdict, Verdict, explain};
use crate::{
    answer::{Answer, Unknown, UnknownCause},
    condition::Pool,
    discover::Discovered,
    examine::{Ask, At, Examination, Met, Unacceptable},
    image::{ImageReference, Platforms},
    keychain::Keychain,
    registry::{self, Child, Manifest, Repository},
    requirement::{BaseImage, BaseImages, PolicyRequirements, SbomRequirement, SignatureRequirement},
    runnable::runnable,
    sbom::{Header, SbomVerdict, VerifiedSbom},
    verifier::{Bases, Discoveries},
};

const CONCURRENCY: usize = 4;

/// One image under examination.
pub(crate) struct Subject<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) discoveries: &'a Discoveries,
    pub(crate) pool: &'a Pool,
    pub(crate) bases: &'a Bases,
    pub(crate) keychain: &'a Keychain,
    pub(crate) now: Timestamp,
    pub(crate) digest: &'a Sha256Digest,
    pub(crate) platforms: &'a Platforms,
    /// How messages name the image: `host/repository@digest`.
    pub(crate) name: String,
}

/// What came of one ask, over the index and its children.
struct Outcome {
    met: Vec<(ImageDigest, Met)>,
    /// `None`: it is met.
    unmet: Option<Unmet>,
}

enum Unmet {
    Refused(RefusalReason, String),
    Unknown(Unknown),
}

/// Whether an image satisfies all that a policy asks.
pub(crate) async fn prove(subject: &Subject<'_>, requirements: &PolicyRequirements) -> Verdict {
    let now = subject.now;
    let acceptable = |header: &Header| acceptable(header, requirements.sbom(), now);
    let mut asks: Vec<_> = requirements.signatures().iter().map(Ask::Signature).collect();
    if let Some(sbom) = requirements.sbom() {
        asks.push(Ask::Sbom { signed_by: &sbom.signed_by, acceptable: &acceptable, keep: false });
    }
    asks.extend(requirements.attestations().iter().map(Ask::Attestation));
    asks.extend(requirements.base_images().map(Ask::BaseImages));
    let (digest, outcomes) = match subject.examine(&asks).boxed().await {
        Ok(examined) => examined,
        Err((digest, unknown)) => return Verdict::Unknown(UnknownVerdict::of(digest, unknown)),
    };
    let (mut evidence, mut live, mut expires_at) = (Vec::new(), Vec::new(), None::<Timestamp>);
    let mut unknown = None;
    for (ask, outcome) in asks.iter().zip(outcomes) {
        match outcome.unmet {
            // A definite failure is told before an unknown: no later answer can mend it.
            Some(Unmet::Refused(reason, found)) => {
                return Verdict::Refused(subject.refusal(ask, &digest, reason, found));
            }
            Some(Unmet::Unknown(why)) => unknown = unknown.or(Some(why)),
            None => {
                for (on, met) in outcome.met {
                    let expiry = met.sbom.as_ref().and_then(|header| expiry(header, requirements.sbom()));
                    expires_at = [expires_at, expiry].into_iter().flatten().min();
                    live.extend(met.live);
                    evidence.push(Evidence { requirement: ask.name(), subject: on, signed_by: met.signed_by });
                }
            }
        }
    }
    if let Some(unknown) = unknown {
        return Verdict::Unknown(UnknownVerdict::of(Some(digest), unknown));
    }
    Verdict::Proven(Proof::of(digest, requirements.policy().clone(), evidence, now, expires_at, live))
}

/// The bill of materials of an image under one entry's authorities.
pub(crate) async fn sbom(subject: &Subject<'_>, signed_by: &SignatureRequirement) -> SbomVerdict {
    let asks = [Ask::Sbom { signed_by, acceptable: &|_| Ok(()), keep: true }];
    let (digest, mut outcomes) = match subject.examine(&asks).boxed().await {
        Ok(examined) => examined,
        Err((digest, unknown)) => return SbomVerdict::Unknown(UnknownVerdict::of(digest, unknown)),
    };
    let [ask] = asks;
    let Some(outcome) = outcomes.pop() else {
        return SbomVerdict::Refused(subject.refusal(&ask, &digest, RefusalReason::NoSbom, "nothing".to_owned()));
    };
    match outcome.unmet {
        Some(Unmet::Refused(reason, found)) => SbomVerdict::Refused(subject.refusal(&ask, &digest, reason, found)),
        Some(Unmet::Unknown(unknown)) => SbomVerdict::Unknown(UnknownVerdict::of(Some(digest), unknown)),
        None => {
            let documents = outcome
                .met
                .into_iter()
                .filter_map(|(on, met)| Some((on, met.signed_by, met.sbom?, met.document?)))
                .collect();
            match VerifiedSbom::of(documents) {
                Ok(sbom) => SbomVerdict::Found(sbom.into()),
                Err(why) => SbomVerdict::Refused(subject.refusal(&ask, &digest, RefusalReason::UnsupportedSbom, why)),
            }
        }
    }
}

impl Subject<'_> {
    async fn examine(&self, asks: &[Ask<'_>]) -> Result<(ImageDigest, Vec<Outcome>), (Option<ImageDigest>, Unknown)> {
        // The image's own manifest and what refers to it are asked for at once: one round trip for both.
        let (manifest, listed, ()) = futures::join!(
            self.manifest(),
            self.discoveries.by_api(self.repository, self.digest),
            self.discoveries.expect_tags(self.repository, self.digest)
        );
        let manifest = manifest.map_err(|unknown| (None, unknown))?;
        let digest = ImageDigest { kind: manifest.kind(), digest: self.digest.clone() };
        let own = self.examine_one(self.digest, asks, &listed).boxed().await;
        let Manifest::Index(children) = manifest else {
            let outcomes = own.into_iter().map(|one| Outcome::of_one(&digest, one)).collect();
            return Ok((digest, outcomes));
        };
        let mut outcomes = Vec::with_capacity(asks.len());
        let runnable = runnable(children, self.platforms, &self.name);
        for (ask, own) in asks.iter().zip(own) {
            let unmet = match own {
                Ok(met) => {
                    outcomes.push(Outcome { met: vec![(digest.clone(), met)], unmet: None });
                    continue;
                }
                Err(unmet) => unmet,
            };
            outcomes.push(self.by_children(*ask, unmet, &runnable).boxed().await);
        }
        Ok((digest, outcomes))
    }

    async fn manifest(&self) -> Result<Manifest, Unknown> {
        let answer = self.repository.manifest(self.digest).await;
        let content = answer.or_no_image(|| format!("{}: no such image in the registry", self.name))?;
        Manifest::read(&content)
    }

    /// The referrers API first; the tags only for what is still not met. Layers of base images, which other registries
    /// are asked for, only where no provenance does.
    async fn examine_one(
        &self,
        digest: &Sha256Digest,
        asks: &[Ask<'_>],
        listed: &Discovered,
    ) -> Vec<Result<Met, Unmet>> {
        let at = At { pool: self.pool, now: self.now };
        let mut examination = Examination::of(asks);
        examination.examine(self.repository, at, digest, asks, listed).await;
        let is_base = |index: usize| matches!(asks.get(index), Some(Ask::BaseImages(_)));
        let signed_by_api = examination.unmet().into_iter().all(is_base);
        if signed_by_api {
            self.by_layers(&mut examination, asks, digest).await;
        }
        let by_api = examination.all_met();
        if !by_api {
            let tagged = self.discoveries.by_tags(self.repository, digest).await;
            examination.examine(self.repository, at, digest, asks, &tagged).await;
        }
        if !signed_by_api {
            self.by_layers(&mut examination, asks, digest).await;
        }
        if examination.all_met() {
            self.discoveries.met_by_tags(self.repository, !by_api).await;
        }
        let unknown = examination.unknown.into_iter().next();
        let judge = |(ask, tally): (&Ask<'_>, crate::examine::Tally)| {
            let (reason, found) = explain::found(ask, &tally);
            let unknown = tally.unknown().or(unknown.as_ref()).cloned();
            match (tally.into_met(), unknown) {
                (Some(met), _) => Ok(met),
                (None, Some(unknown)) => Err(Unmet::Unknown(unknown)),
                (None, None) => Err(Unmet::Refused(reason, found)),
            }
        };
        asks.iter().zip(examination.tallies).map(judge).collect()
    }

    async fn by_layers(&self, examination: &mut Examination, asks: &[Ask<'_>], digest: &Sha256Digest) {
        for index in examination.unmet() {
            let Some(Ask::BaseImages(base)) = asks.get(index) else { continue };
            let on = self.on_layers_of(base, digest).boxed().await;
            examination.learn(index, on.map(|base| base.map(Met::by)));
        }
    }

    /// The pinned base image with all of whose layers the image with this digest begins, in words. An index has none.
    async fn on_layers_of(&self, base: &BaseImages, digest: &Sha256Digest) -> Result<Option<String>, Unknown> {
        let pinned = base.known().iter().filter_map(|base| match base {
            BaseImage::Pinned { image, digest } => Some((image.clone(), digest.clone())),
            BaseImage::Digest(_) | BaseImage::Named(_) => None,
        });
        let pinned: Vec<_> = pinned.collect();
        if pinned.is_empty() {
            return Ok(None);
        }
        let content = match self.repository.manifest(digest).await {
            Answer::Found(content) => content,
            // What is not there has nothing attached that counts either.
            Answer::None => return Ok(None),
            Answer::Unknown(unknown) => return Err(unknown),
        };
        if !matches!(Manifest::read(&content)?, Manifest::Image) {
            return Ok(None);
        }
        let layers = registry::layer_digests(&content)?;
        let hint = registry::base_hint(&content);
        let (hinted, others): (Vec<_>, Vec<_>) =
            pinned.into_iter().partition(|(_, digest)| Some(digest) == hint.as_ref());
        let look = |(image, digest): (ImageReference, Sha256Digest)| async move {
            let layers_of = self.bases.layers(&image, &digest, self.keychain).await;
            (image, digest, layers_of)
        };
        // Others are not asked for before the hinted one was looked at.
        let first = stream::iter(hinted).map(look).buffered(1);
        let mut looked_at = pin!(first.chain(stream::iter(others).map(look).buffered(CONCURRENCY)));
        let mut unknown = None;
        while let Some((image, digest, layers_of)) = looked_at.next().await {
            match layers_of {
                // An image without layers would be under every other.
                Ok(bases) if bases.iter().any(|base| !base.is_empty() && layers.starts_with(base)) => {
                    return Ok(Some(format!("nobody; it begins with the layers of {}@{digest}", image.canonical())));
                }
                Ok(_) => {}
                Err(why) => unknown = unknown.or(Some(why)),
            }
        }
        unknown.map_or(Ok(None), Err)
    }

    async fn by_children(&self, ask: Ask<'_>, own: Unmet, runnable: &Result<Vec<Child>, Unknown>) -> Outcome {
        let runnable = match runnable {
            Ok(runnable) => runnable,
            Err(too_many) => return Outcome::unmet(Unmet::Unknown(too_many.clone())),
        };
        if runnable.is_empty() {
            return match own {
                Unmet::Refused(..) => Outcome::unmet(Unmet::Refused(
                    RefusalReason::NoPlatform,
                    "an index that is not signed itself and has no image for the cluster's platforms".to_owned(),
                )),
                unknown @ Unmet::Unknown(_) => Outcome::unmet(unknown),
            };
        }
        let asks = [ask];
        let examined: Vec<_> = stream::iter(runnable.clone())
            .map(|child| {
                let asks = &asks;
                async move {
                    let digest = &child.digest.digest;
                    let listed = self.discoveries.by_api(self.repository, digest).await;
                    let examined = self.examine_one(digest, asks, &listed).boxed().await.pop();
                    (child, examined)
                }
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let (mut met, mut unknown) = (Vec::new(), None);
        for (child, result) in examined {
            match result {
                Some(Ok(one)) => met.push((child.digest, one)),
                // Index and a child both definitely fail: that is a refusal, whatever the other children are.
                Some(Err(Unmet::Refused(reason, found))) => {
                    let platform = child.platform.as_ref().map_or_else(|| "a child".to_owned(), ToString::to_string);
                    return match own {
                        Unmet::Refused(_, at_index) => Outcome::unmet(Unmet::Refused(
                            reason,
                            format!("{at_index} on the index; {found} on {platform}"),
                        )),
                        not_known @ Unmet::Unknown(_) => Outcome::unmet(not_known),
                    };
                }
                Some(Err(Unmet::Unknown(why))) => unknown = unknown.or(Some(why)),
                None => unknown = unknown.or(Some(Unknown::new(UnknownCause::Unsupported, "a child was not examined"))),
            }
        }
        match unknown {
            Some(unknown) => Outcome::unmet(Unmet::Unknown(unknown)),
            None => Outcome { met, unmet: None },
        }
    }

    fn refusal(&self, ask: &Ask<'_>, digest: &ImageDigest, reason: RefusalReason, found: String) -> Refusal {
        Refusal {
            digest: Some(digest.clone()),
            requirement: ask.name(),
            reason,
            found,
            next_step: explain::next_step(ask, reason, &self.name, self.platforms),
        }
    }
}

impl Outcome {
    fn of_one(digest: &ImageDigest, result: Result<Met, Unmet>) -> Self {
        match result {
            Ok(met) => Self { met: vec![(digest.clone(), met)], unmet: None },
            Err(unmet) => Self::unmet(unmet),
        }
    }

    fn unmet(unmet: Unmet) -> Self {
        Self { met: Vec::new(), unmet: Some(unmet) }
    }
}

/// Whether a document is of an accepted format and young enough; the error is what a refusal says.
fn acceptable(header: &Header, asked: Option<&SbomRequirement>, now: Timestamp) -> Result<(), Unacceptable> {
    let Some(asked) = asked else { return Ok(()) };
    let but =
        |reason, what| Err(Unacceptable { reason, why: format!("{:?} {} {what}", header.format, header.version) });
    if !asked.formats.is_empty() && !asked.formats.contains(&header.format) {
        return but(RefusalReason::UnsupportedSbom, "that this policy does not accept");
    }
    if asked.max_age.is_some() {
        let Some(expiry) = expiry(header, Some(asked)) else {
            return but(RefusalReason::StaleSbom, "that does not say when it was made");
        };
        if expiry <= now {
            return but(RefusalReason::StaleSbom, "that is too old");
        }
    }
    Ok(())
}

/// When a document becomes too old for the policy.
fn expiry(header: &Header, asked: Option<&SbomRequirement>) -> Option<Timestamp> {
    header.created?.checked_add(asked?.max_age?).ok()
}
