//! The backend's words as they are remembered: by digest, bounded in bytes, the least used forgotten first.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use moka::{future::Cache, policy::EvictionPolicy};
use tokio::time::Instant;
use zastava_crds::{
    digest::Sha256Digest,
    wire::verdict::{ImageVerdict, VerdictWord},
};

/// Bytes that are remembered: some ten thousand images.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// What a word costs beside its texts: key, times, and the cache's own books.
const OVERHEAD: usize = 400;
/// How long a word that lets in is taken without asking again, unless the backend says less.
pub const FRESH: Duration = Duration::from_secs(30);
/// The same for a word that does not: an image that is approved now may run soon.
pub const FRESH_REFUSAL: Duration = Duration::from_secs(5);
/// Characters of a reason and of a link.
const MAX_TEXT: usize = 512;
/// Characters of a revision.
const MAX_REVISION: usize = 128;

/// What the backend said of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word itself.
    pub verdict: VerdictWord,
    /// Why, in one line.
    pub reason: Option<String>,
    /// Where a person reads more.
    pub link: Option<String>,
    /// Revision of the backend's policy; empty: it said nothing of this image.
    pub revision: String,
    /// When the backend last stood by it; never later than it was heard.
    pub issued_at: Timestamp,
    fresh_until: Instant,
}

impl Word {
    /// As it was just heard.
    pub(super) fn heard(said: ImageVerdict) -> Self {
        let longest = match said.verdict {
            VerdictWord::Pass | VerdictWord::Warn => FRESH,
            VerdictWord::Unknown | VerdictWord::Fail => FRESH_REFUSAL,
        };
        let ttl = said.ttl_seconds.map_or(longest, |seconds| Duration::from_secs(seconds.into()));
        Self {
            verdict: said.verdict,
            reason: said.reason.map(|reason| printable(&reason, MAX_TEXT)),
            link: said.link.filter(|link| is_link(link)),
            revision: printable(&said.policy_revision, MAX_REVISION),
            issued_at: said.issued_at.min(Timestamp::now()),
            fresh_until: Instant::now() + ttl.min(longest),
        }
    }

    /// That the backend answered, and said nothing of an image.
    pub(super) fn silence() -> Self {
        Self {
            verdict: VerdictWord::Unknown,
            reason: Some("the backend's answer says nothing of this image".to_owned()),
            link: None,
            revision: String::new(),
            issued_at: Timestamp::now(),
            fresh_until: Instant::now() + FRESH_REFUSAL,
        }
    }

    /// Whether it is taken without asking again.
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.fresh_until
    }

    /// Time since the backend last stood by it.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.duration_since(self.issued_at).try_into().unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        let texts = [self.reason.as_deref(), self.link.as_deref(), Some(self.revision.as_str())];
        OVERHEAD + texts.into_iter().flatten().map(str::len).sum::<usize>()
    }
}

fn printable(text: &str, max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect()
}

fn is_link(link: &str) -> bool {
    link.starts_with("https://") && link.len() <= MAX_TEXT && link.chars().all(|c| c.is_ascii_graphic())
}

/// What is remembered.
#[derive(Clone, Debug)]
pub(super) struct Words(Cache<Sha256Digest, Arc<Word>>);

impl Words {
    pub fn new() -> Self {
        let weigh = |_: &Sha256Digest, word: &Arc<Word>| u32::try_from(word.bytes()).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(MAX_BYTES).weigher(weigh).eviction_policy(EvictionPolicy::lru());
        Self(cache.build())
    }

    pub async fn get(&self, digest: &Sha256Digest) -> Option<Arc<Word>> {
        self.0.get(digest).await
    }

    pub async fn learn(&self, digest: Sha256Digest, word: Arc<Word>) {
        self.0.insert(digest, word).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(verdict: VerdictWord, ttl_seconds: Option<u32>) -> ImageVerdict {
        ImageVerdict {
            digest: Sha256Digest::of(b"image"),
            verdict,
            reason: Some("line\nanother".to_owned()),
            link: Some("https://scanner.example/1".to_owned()),
            policy_revision: "r".repeat(200),
            issued_at: Timestamp::MAX,
            ttl_seconds,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_is_fresh_for_its_ttl_and_never_longer_than_its_kind() {
        for (verdict, ttl, fresh) in [
            (VerdictWord::Pass, None, FRESH),
            (VerdictWord::Warn, Some(10), Duration::from_secs(10)),
            (VerdictWord::Pass, Some(86_400), FRESH),
            (VerdictWord::Fail, None, FRESH_REFUSAL),
            (VerdictWord::Unknown, Some(3600), FRESH_REFUSAL),
            (VerdictWord::Pass, Some(0), Duration::ZERO),
        ] {
            let word = Word::heard(said(verdict, ttl));
            assert_eq!(word.is_fresh(), !fresh.is_zero(), "{verdict} {ttl:?}");
            tokio::time::advance(fresh).await;
            assert!(!word.is_fresh(), "{verdict} {ttl:?}");
        }
    }

    #[tokio::test]
    async fn what_others_wrote_is_bounded_and_a_link_is_a_link() {
        let word = Word::heard(said(VerdictWord::Pass, None));
        assert_eq!((word.reason.as_deref(), word.revision.len()), (Some("line another"), MAX_REVISION));
        assert!(word.link.is_some() && word.issued_at <= Timestamp::now());
        for bad in [
            "javascript:alert(1)",
            "http://s.example",
            "https://s.example/a b",
            &format!("https://{}", "x".repeat(600)),
        ] {
            let word = Word::heard(ImageVerdict { link: Some(bad.to_owned()), ..said(VerdictWord::Fail, None) });
            assert_eq!(word.link, None, "{bad}");
        }
    }

    #[tokio::test]
    async fn memory_is_bounded_in_bytes() {
        let words = Words::new();
        let reason = "x".repeat(MAX_TEXT);
        for n in 0..20_000_u32 {
            let said = ImageVerdict { reason: Some(reason.clone()), ..said(VerdictWord::Pass, None) };
            words.learn(Sha256Digest::of(&n.to_be_bytes()), Arc::new(Word::heard(said))).await;
        }
        words.0.run_pending_tasks().await;
        assert!(words.0.weighted_size() <= MAX_BYTES);
        assert!(words.get(&Sha256Digest::of(&19_999_u32.to_be_bytes())).await.is_some(), "the newest is kept");
        assert!(words.get(&Sha256Digest::of(&0_u32.to_be_bytes())).await.is_none(), "the oldest is not");
    }
}
