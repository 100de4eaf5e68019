//! Memory, sharing and batching, over a backend that does as it is told.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{sync::Notify, time::advance};
use zastava_crds::{digest::DigestKind, wire::verdict::VerdictWord};

use super::*;

#[derive(Default)]
struct Fake {
    said: Mutex<Vec<ImageVerdict>>,
    down: Mutex<Option<Unavailable>>,
    batches: Mutex<Vec<usize>>,
    /// While it holds, questions wait for `go`.
    held: AtomicBool,
    go: Notify,
    panics: AtomicBool,
}

#[derive(Clone, Default)]
struct Scanner(Arc<Fake>);

impl Ask for Scanner {
    fn ask<'a>(&'a self, images: &'a [ImageDigest]) -> BoxFuture<'a, Result<Vec<ImageVerdict>, Unavailable>> {
        Box::pin(async move {
            self.0.batches.lock().unwrap().push(images.len());
            assert!(!self.0.panics.load(Ordering::SeqCst), "as told");
            if self.0.held.load(Ordering::SeqCst) {
                self.0.go.notified().await;
            }
            match self.0.down.lock().unwrap().clone() {
                Some(why) => Err(why),
                None => Ok(self.0.said.lock().unwrap().clone()),
            }
        })
    }

    fn place(&self) -> String {
        "https://scanner.example/".to_owned()
    }
}

impl Scanner {
    fn says(&self, n: u32, verdict: VerdictWord) {
        let said = ImageVerdict {
            digest: image(n).digest,
            verdict,
            reason: None,
            link: None,
            policy_revision: "1".to_owned(),
            issued_at: Timestamp::now(),
            ttl_seconds: None,
        };
        self.0.said.lock().unwrap().push(said);
    }

    fn says_now(&self, n: u32, verdict: VerdictWord) {
        self.0.said.lock().unwrap().clear();
        self.says(n, verdict);
    }

    fn is(&self, down: Option<Cause>) {
        *self.0.down.lock().unwrap() = down.map(|cause| Unavailable::new(cause, "503"));
    }

    fn batches(&self) -> Vec<usize> {
        self.0.batches.lock().unwrap().clone()
    }
}

fn image(n: u32) -> ImageDigest {
    ImageDigest { kind: DigestKind::Manifest, digest: Sha256Digest::of(&n.to_be_bytes()) }
}

fn verdicts() -> (Scanner, Verdicts, Registry) {
    let (scanner, mut registry) = (Scanner::default(), Registry::default());
    let verdicts = Verdicts::new(scanner.clone(), BackendMetrics::new(&mut registry));
    (scanner, verdicts, registry)
}

async fn asked(verdicts: &Verdicts, n: u32) -> Told {
    verdicts.ask(&image(n), Instant::now() + Duration::from_secs(8)).await
}

fn word(told: &Told) -> Option<VerdictWord> {
    match told {
        Told::Now(word) => Some(word.verdict),
        Told::Unavailable { .. } => None,
    }
}

fn has(registry: &Registry, line: &str) -> bool {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text.lines().any(|l| l == line)
}

#[tokio::test(start_paused = true)]
async fn a_changed_mind_counts_when_the_word_is_no_longer_fresh() {
    let (scanner, verdicts, registry) = verdicts();
    scanner.says(1, VerdictWord::Pass);
    assert_eq!(word(&asked(&verdicts, 1).await), Some(VerdictWord::Pass));
    scanner.says_now(1, VerdictWord::Fail);
    advance(Duration::from_secs(29)).await;
    assert_eq!(word(&asked(&verdicts, 1).await), Some(VerdictWord::Pass));
    advance(Duration::from_secs(1)).await;
    assert_eq!(word(&asked(&verdicts, 1).await), Some(VerdictWord::Fail));
    assert_eq!(scanner.batches(), [1, 1]);
    scanner.says_now(1, VerdictWord::Pass);
    advance(FRESH_REFUSAL).await;
    assert_eq!(word(&asked(&verdicts, 1).await), Some(VerdictWord::Pass), "an approval counts sooner");
    assert!(has(&registry, "zastava_verdict_cache_hits_total 1"));
    assert!(has(&registry, "zastava_verdict_cache_misses_total 3"));
}

#[tokio::test(start_paused = true)]
async fn questions_of_a_moment_go_together_and_equal_ones_are_one() {
    let (scanner, verdicts, _) = verdicts();
    (0..250).for_each(|n| scanner.says(n, VerdictWord::Pass));
    let told = join_all((0..750).map(|n| asked_owned(verdicts.clone(), n % 250))).await;
    assert!(told.iter().all(|told| word(told) == Some(VerdictWord::Pass)));
    let mut batches = scanner.batches();
    batches.sort_unstable();
    assert_eq!(batches, [50, MAX_IMAGES, MAX_IMAGES]);
}

async fn asked_owned(verdicts: Verdicts, n: u32) -> Told {
    asked(&verdicts, n).await
}

#[tokio::test(start_paused = true)]
async fn an_equal_question_in_flight_is_joined_and_goes_on_past_a_deadline() {
    let (scanner, verdicts, _) = verdicts();
    scanner.says(1, VerdictWord::Pass);
    scanner.0.held.store(true, Ordering::SeqCst);
    let late = verdicts.ask(&image(1), Instant::now() + Duration::from_secs(1)).await;
    let Told::Unavailable { why, last: None } = late else { panic!("{late:?}") };
    assert_eq!(why.cause, Cause::Deadline);
    let joined = tokio::spawn(asked_owned(verdicts.clone(), 1));
    tokio::task::yield_now().await;
    scanner.0.go.notify_one();
    assert_eq!(word(&joined.await.unwrap()), Some(VerdictWord::Pass));
    assert_eq!(scanner.batches(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_is_unknown_and_what_was_not_asked_is_ignored_and_counted() {
    let (scanner, verdicts, registry) = verdicts();
    scanner.says(2, VerdictWord::Pass);
    scanner.says(3, VerdictWord::Pass);
    let Told::Now(silence) = asked(&verdicts, 1).await else { panic!("unavailable") };
    assert_eq!((silence.verdict, silence.revision.as_str()), (VerdictWord::Unknown, ""));
    assert!(has(&registry, "zastava_verdict_answers_ignored_total 2"));
    asked(&verdicts, 2).await;
    assert_eq!(scanner.batches(), [1, 1], "an answer nobody asked for is not remembered");
}

#[tokio::test(start_paused = true)]
async fn of_two_words_about_one_image_the_stricter_counts() {
    for words in [[VerdictWord::Pass, VerdictWord::Fail], [VerdictWord::Fail, VerdictWord::Unknown]] {
        let (scanner, verdicts, _) = verdicts();
        for word in words {
            scanner.says(1, word);
        }
        assert_eq!(word(&asked(&verdicts, 1).await), Some(VerdictWord::Fail));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_word_outlives_its_freshness_while_the_backend_is_down() {
    let (scanner, verdicts, registry) = verdicts();
    scanner.says(1, VerdictWord::Pass);
    asked(&verdicts, 1).await;
    scanner.is(Some(Cause::Busy));
    advance(FRESH).await;
    for expected in [Cause::Busy, Cause::Busy, Cause::Busy, Cause::Paused] {
        let Told::Unavailable { why, last } = asked(&verdicts, 1).await else { panic!("answered") };
        assert_eq!((why.cause, last.unwrap().verdict), (expected, VerdictWord::Pass));
    }
    let Told::Unavailable { last: None, .. } = asked(&verdicts, 2).await else { panic!("never said") };
    assert_eq!(scanner.batches().len(), 4, "a pause asks nothing");
    assert!(has(&registry, "zastava_verdict_unavailable_total{cause=\"busy\"} 3"));
    let status = verdicts.status();
    assert_eq!((&status["reachable"], &status["failure"]["cause"]), (&false.into(), &"busy".into()));
    scanner.is(None);
    advance(Duration::from_secs(1)).await;
    assert_eq!(word(&asked(&verdicts, 1).await), Some(VerdictWord::Pass));
    assert_eq!(verdicts.status()["reachable"], true);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_question_that_was_given_up() {
    let (scanner, verdicts, _) = verdicts();
    scanner.says(1, VerdictWord::Pass);
    scanner.0.panics.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let Told::Unavailable { why, .. } = asked(&verdicts, 1).await else { panic!("answered") };
    assert_eq!(why.cause, Cause::Failed);
    assert!(began.elapsed() < Duration::from_secs(1));
    scanner.0.panics.store(false, Ordering::SeqCst);
    assert_eq!(word(&asked(&verdicts, 1).await), Some(VerdictWord::Pass));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded() {
    let (scanner, verdicts, _) = verdicts();
    scanner.0.held.store(true, Ordering::SeqCst);
    let limit = u32::try_from(MAX_IN_FLIGHT).unwrap();
    let asking: Vec<_> = (0..limit).map(|n| tokio::spawn(asked_owned(verdicts.clone(), n))).collect();
    tokio::time::sleep(GATHER * 2).await;
    let Told::Unavailable { why, .. } = asked(&verdicts, limit).await else { panic!("answered") };
    assert_eq!(why.cause, Cause::Overload);
    assert_eq!(scanner.batches().len(), AT_ONCE, "and so is what is asked at once");
    asking.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn without_a_backend_every_question_says_what_to_set() {
    let told = asked(&Verdicts::not_configured(), 1).await;
    let Told::Unavailable { why, last: None } = told else { panic!("{told:?}") };
    assert!(why.cause == Cause::NotConfigured && why.detail.contains("backend.url"), "{why}");
}
