//! Verdicts made ahead of the requests that will want them: of images that run already, when this replica starts; of
//! images that were asked for lately, when a policy or its keys change.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::join_all, stream};
use moka::{policy::EvictionPolicy, sync::Cache};
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
        // By frequency, as is the default, a full memory would take nothing new in.
        let lru = EvictionPolicy::lru();
        Self(Cache::builder().max_capacity(MAX_IMAGES).time_to_idle(MEMORY).eviction_policy(lru).build())
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
    /// The nodes' platforms that they were made for.
    platforms: Option<Platforms>,
}

/// A policy as its verdicts were made: its spec, and its keys where it has some.
type Made = (PolicyRef, Option<PolicyIdentity>);

impl Warm {
    /// Makes the verdicts of every policy that is new or changed since the last time, of all when the nodes' platforms
    /// changed, and asks the backend where it asks for its word: a replica that has just started then has a last word
    /// too. Returns how many were asked for.
    pub async fn up<E: Engine>(
        &mut self,
        engine: &E,
        verdicts: &Verdicts,
        snapshot: &Snapshot,
        recent: &Recent,
        keychain: &Keychain,
    ) -> usize {
        if self.platforms.as_ref() != Some(&snapshot.platforms) {
            self.made.clear();
            self.platforms = Some(snapshot.platforms.clone());
        }
        let now: Vec<_> = snapshot.in_force().map(|policy| (policy.clone(), made(policy))).collect();
        let changed: Vec<_> = now.iter().filter(|(_, id)| !self.made.contains(id)).map(|(p, _)| p.clone()).collect();
        self.made = now.into_iter().map(|(_, id)| id).collect();
        if changed.is_empty() {
            return 0;
        }
        let Wanted { proofs, words } = Wanted::of(&changed, &recent.all());
        let count = proofs.len();
        // They are one question.
        let asking = join_all(words.into_iter().map(|digest| word(verdicts.clone(), digest)).collect::<Vec<_>>());
        // Boxed, or a task that borrows this much can't be told to be Send.
        let proving = stream::iter(proofs)
            .for_each_concurrent(AT_ONCE, |(policy, image)| one(engine, policy, image, &snapshot.platforms, keychain))
            .boxed();
        futures::join!(proving, asking);
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
    use zastava_verify::image::Platform;

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

    #[tokio::test]
    async fn other_platforms_of_the_nodes_ask_for_other_proofs() {
        let bench = Bench::new(&[("one", signed("Enforce"))]);
        let (recent, keychain, mut warm) = (Recent::default(), Keychain::default(), Warm::default());
        recent.saw(pinned(SIGNED, 'a').parse().unwrap());
        let arm = Platform { os: "linux".to_owned(), architecture: "arm64".to_owned() };
        for (platforms, proofs) in [(Platforms::Any, 1), (Platforms::of([arm.clone()]), 1), (Platforms::of([arm]), 0)] {
            let known = bench.world.snapshot();
            bench.world.publish(Snapshot { policies: known.policies.clone(), platforms, ..Snapshot::default() });
            let asked = warm.up(&bench.engine, &bench.verdicts(), &bench.world.snapshot(), &recent, &keychain).await;
            assert_eq!(asked, proofs, "{:?}", bench.world.snapshot().platforms);
        }
    }

    #[test]
    fn a_full_memory_forgets_what_was_asked_for_longest_ago() {
        let recent = Recent::default();
        let name = |n: u64| format!("registry.example/app-{n}@{}", Sha256Digest::of(&n.to_be_bytes()));
        for n in 0..=MAX_IMAGES {
            recent.saw(name(n).parse().unwrap());
            recent.0.run_pending_tasks();
        }
        let all: Vec<_> = recent.all().iter().map(ToString::to_string).collect();
        assert!(all.contains(&name(MAX_IMAGES)), "the newest");
        assert!(!all.contains(&name(0)), "the oldest");
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
