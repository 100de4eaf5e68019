//! Verdicts made ahead of the requests that will want them: of images that run already, when this replica starts; of
//! images that were asked for lately, when a policy or its keys change.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all, stream};
use moka::sync::Cache;
use tokio::time::Instant;
use zastava_core::backend::verdicts::Verdicts;
use zastava_crds::{
    digest::{DigestKind, ImageDigest, Sha256Digest},
    wire::event::PolicyRef,
};
use zastava_verify::{
    image::{ImageReference, Platforms},
    keychain::Keychain,
    requirement::PolicyIdentity,
};

use crate::{
    decision::judgement::{Judged, Judgement},
    engine::Engine,
    policies::{
        policy::{Policy, Requirements},
        snapshot::Snapshot,
    },
};

/// Images that are remembered at most, and how long after they were last asked for.
const MAX_IMAGES: u64 = 2_000;
const MEMORY: Duration = Duration::from_hours(6);
/// Verifications that run at once: requests go first.
const AT_ONCE: usize = 4;
/// Longest that one image may hold up the next.
const PATIENCE: Duration = Duration::from_secs(20);

/// Images by digest that are worth a verdict ahead of time; cheap to clone.
#[derive(Clone, Debug)]
pub struct Recent(Cache<String, ImageReference>);

impl Default for Recent {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_IMAGES).time_to_idle(MEMORY).build())
    }
}

impl Recent {
    /// Remembers an image; one without a digest is another image tomorrow, and is left out.
    pub fn saw(&self, image: ImageReference) {
        if let Some(digest) = image.digest() {
            self.0.insert(format!("{}@{digest}", image.canonical()), image);
        }
    }

    /// Remembers the images that satisfied a policy.
    pub fn satisfied(&self, judgements: &[Judgement]) {
        for judgement in judgements {
            let Judged::Satisfied { digest, .. } = &judgement.judged else { continue };
            let name = judgement.image.reference.split_once('@').map_or(&*judgement.image.reference, |(name, _)| name);
            if let Ok(image) = format!("{name}@{}", digest.digest).parse() {
                self.saw(image);
            }
        }
    }

    fn all(&self) -> Vec<ImageReference> {
        self.0.iter().map(|(_, image)| image).collect()
    }
}

/// Which policies' verdicts are made.
#[derive(Debug, Default)]
pub struct Warm {
    made: Vec<Made>,
}

/// A policy as its verdicts were made: its spec, and its keys where it has some.
type Made = (PolicyRef, Option<PolicyIdentity>);

impl Warm {
    /// Makes the verdicts of every policy that is new or changed since the last time, and asks the backend where it asks
    /// for its word: a replica that has just started then has a last word too. Returns how many were asked for.
    pub async fn up<E: Engine>(
        &mut self,
        engine: &E,
        verdicts: &Verdicts,
        snapshot: &Snapshot,
        recent: &Recent,
        keychain: &Keychain,
    ) -> usize {
        let now: Vec<_> = snapshot.in_force().map(|policy| (policy.clone(), made(policy))).collect();
        let changed: Vec<_> = now.iter().filter(|(_, id)| !self.made.contains(id)).map(|(p, _)| p.clone()).collect();
        self.made = now.into_iter().map(|(_, id)| id).collect();
        if changed.is_empty() {
            return 0;
        }
        let Wanted { proofs, words } = Wanted::of(&changed, &recent.all());
        let count = proofs.len();
        stream::iter(proofs)
            .for_each_concurrent(AT_ONCE, |(policy, image)| one(engine, policy, image, &snapshot.platforms, keychain))
            .await;
        // They are one question.
        join_all(words.into_iter().map(|digest| word(verdicts.clone(), digest)).collect::<Vec<_>>()).await;
        count
    }
}

/// What is worth making ahead.
struct Wanted {
    proofs: Vec<(Arc<Policy>, ImageReference)>,
    words: BTreeSet<Sha256Digest>,
}

impl Wanted {
    fn of(policies: &[Arc<Policy>], images: &[ImageReference]) -> Self {
        let mut wanted = Self { proofs: Vec::new(), words: BTreeSet::new() };
        for policy in policies {
            for image in images.iter().filter(|image| policy.scope.has_image(image)) {
                if matches!(policy.requirements, Requirements::Proof(_)) {
                    wanted.proofs.push((policy.clone(), image.clone()));
                }
                if policy.verdict.is_some() {
                    wanted.words.extend(image.digest().cloned());
                }
            }
        }
        wanted
    }
}

fn made(policy: &Policy) -> Made {
    let identity = match &policy.requirements {
        Requirements::Proof(requirements) => Some(requirements.policy().clone()),
        Requirements::DigestOnly | Requirements::Unreadable { .. } => None,
    };
    (policy.reference.clone(), identity)
}

async fn word(verdicts: Verdicts, digest: Sha256Digest) {
    verdicts.ask(&ImageDigest { kind: DigestKind::Unresolved, digest }, Instant::now() + PATIENCE).await;
}

async fn one<E: Engine>(
    engine: &E,
    policy: Arc<Policy>,
    image: ImageReference,
    platforms: &Platforms,
    keychain: &Keychain,
) {
    if let Requirements::Proof(requirements) = &policy.requirements {
        engine.examine(&image, Some(requirements), platforms, keychain, Instant::now() + PATIENCE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use serde_json::json;
    use zastava_core::backend::{Cause, verdicts::FRESH};
    use zastava_crds::wire::verdict::VerdictWord;

    use super::*;
    use crate::fixtures::{Bench, SIGNED, UNSIGNED, pinned, signed};

    #[tokio::test]
    async fn what_was_asked_for_is_verified_again_when_a_policy_changes_and_only_then() {
        let mut bench = Bench::new(&[("one", signed("Enforce"))]);
        let (recent, keychain, mut warm) = (Recent::default(), Keychain::default(), Warm::default());
        for image in [pinned(SIGNED, 'a'), pinned(UNSIGNED, 'b'), SIGNED.to_owned()] {
            recent.saw(image.parse().unwrap());
        }
        let asked = |bench: &Bench| bench.engine.asked.swap(0, Ordering::SeqCst);
        assert_eq!(warm.up(&bench.engine, &bench.verdicts(), &bench.world.snapshot(), &recent, &keychain).await, 2);
        assert_eq!(asked(&bench), 2, "the tag is not asked for");
        assert_eq!(warm.up(&bench.engine, &bench.verdicts(), &bench.world.snapshot(), &recent, &keychain).await, 0);
        let mut elsewhere = signed("Audit");
        elsewhere["match"] = json!({"images": ["other.example/**"]});
        bench.policy("two", &elsewhere);
        assert_eq!(
            warm.up(&bench.engine, &bench.verdicts(), &bench.world.snapshot(), &recent, &keychain).await,
            0,
            "out of its scope"
        );
        bench.policy("three", &signed("Audit"));
        assert_eq!(warm.up(&bench.engine, &bench.verdicts(), &bench.world.snapshot(), &recent, &keychain).await, 2);
        assert_eq!(asked(&bench), 2, "for the new policy alone");
    }

    #[tokio::test(start_paused = true)]
    async fn the_backend_is_asked_ahead_in_one_question_so_that_a_new_replica_has_a_last_word() {
        let mut spec = signed("Enforce");
        spec["admission"]["verdict"] = json!({"required": true, "onUnavailable": "LastKnown", "maxAge": "1h"});
        let bench = Bench::new(&[("one", spec), ("two", signed("Enforce"))]);
        let (recent, keychain, mut warm) = (Recent::default(), Keychain::default(), Warm::default());
        for image in [pinned(SIGNED, 'a'), pinned(UNSIGNED, 'b')] {
            recent.saw(image.parse().unwrap());
        }
        bench.scanner.says('a', VerdictWord::Pass);
        warm.up(&bench.engine, &bench.verdicts(), &bench.world.snapshot(), &recent, &keychain).await;
        assert_eq!(bench.scanner.batches(), [2]);
        bench.scanner.is(Some(Cause::Unreachable));
        tokio::time::advance(FRESH).await;
        assert!(bench.create("one", &crate::fixtures::pod(&pinned(SIGNED, 'a'))).await.allowed());
    }

    #[tokio::test]
    async fn an_image_that_satisfied_is_remembered_by_its_digest() {
        let bench = Bench::new(&[("one", signed("Audit"))]);
        assert!(bench.create("one", &crate::fixtures::pod(SIGNED)).await.allowed());
        assert!(bench.create("one", &crate::fixtures::pod(UNSIGNED)).await.allowed());
        let remembered: Vec<_> = bench.recent.all().iter().map(ToString::to_string).collect();
        assert_eq!(remembered, [pinned(SIGNED, 'a')]);
    }
}
