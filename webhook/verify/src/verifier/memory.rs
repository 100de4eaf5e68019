//! What verdicts are remembered by, for how long, and how much memory they may take.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{Expiry, future::Cache};
use zastava_crds::digest::Sha256Digest;

use super::VerifierSettings;
use crate::{image::Platforms, registry::Scope, requirement::PolicyIdentity, verdict::Verdict};

/// What a verdict is bound to; never a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct VerdictKey {
    pub(super) digest: Sha256Digest,
    pub(super) repository: String,
    pub(super) scope: Scope,
    pub(super) policy: PolicyIdentity,
    pub(super) platforms: Platforms,
}

struct Lifetime(Arc<VerifierSettings>);

impl Expiry<VerdictKey, Verdict> for Lifetime {
    fn expire_after_create(&self, _: &VerdictKey, verdict: &Verdict, _: Instant) -> Option<Duration> {
        Some(match verdict {
            Verdict::Proven(_) => jittered(self.0.proof_ttl),
            Verdict::Refused(_) => jittered(self.0.refusal_ttl),
            Verdict::Unknown(unknown) => unknown.retry_after.unwrap_or_else(|| jittered(self.0.unknown_ttl)),
        })
    }
}

pub(super) fn verdicts(settings: &Arc<VerifierSettings>) -> Cache<VerdictKey, Verdict> {
    Cache::builder()
        .max_capacity(settings.max_verdict_bytes)
        .weigher(weight)
        .expire_after(Lifetime(settings.clone()))
        .build()
}

/// Bytes of an entry, roughly: its texts, and what every entry costs in the cache.
fn weight(key: &VerdictKey, verdict: &Verdict) -> u32 {
    const FRAME: usize = 1024;
    let texts = match verdict {
        Verdict::Proven(proof) => {
            let evidence = proof.evidence().iter();
            evidence
                .map(|e| 160 + e.requirement.len() + e.signed_by.iter().map(|by| by.len() + 24).sum::<usize>())
                .chain(proof.live().iter().map(|live| 64 + live.size()))
                .sum()
        }
        Verdict::Refused(refusal) => refusal.requirement.len() + refusal.found.len() + refusal.next_step.len(),
        Verdict::Unknown(unknown) => unknown.message.len() + unknown.next_step.len(),
    };
    let platforms = match &key.platforms {
        Platforms::Any => 0,
        Platforms::Only(platforms) => platforms.len() * 64,
    };
    u32::try_from(FRAME + key.repository.len() + platforms + texts).unwrap_or(u32::MAX)
}

/// Up to a fifth less, so that what was asked together is not forgotten together.
fn jittered(lifetime: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(()) % 1000).unwrap_or(0);
    lifetime.saturating_sub(lifetime / 5 * random / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_differ_and_stay_within_a_fifth() {
        let whole = Duration::from_mins(10);
        let some: std::collections::HashSet<_> = (0..64).map(|_| jittered(whole)).collect();
        assert!(some.len() > 8, "{some:?}");
        assert!(some.iter().all(|one| *one <= whole && *one >= whole * 4 / 5), "{some:?}");
    }
}
