//! The backend's words about images: from memory while they are fresh, else asked; equal questions in flight are one,
//! and those of a moment go together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use zastava_crds::{
    digest::{ImageDigest, Sha256Digest},
    wire::verdict::{ImageVerdict, MAX_IMAGES},
};

pub use super::words::{FRESH, FRESH_REFUSAL, Word};
use super::{Cause, Unavailable, metrics::BackendMetrics, pause::Pause, question::Ask, words::Words};

/// How long a question waits for others to go with it.
const GATHER: Duration = Duration::from_millis(3);
/// Batches that are asked at once; more wait.
const AT_ONCE: usize = 4;
/// Images that are asked about or wait to be.
const MAX_IN_FLIGHT: usize = 4096;
/// Longest that a batch may take, with all the parts it was split into.
const BATCH_TIMEOUT: Duration = Duration::from_secs(15);

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The backend's word, fresh.
    Now(Arc<Word>),
    /// It can't be asked.
    Unavailable {
        /// Why.
        why: Unavailable,
        /// What it said last, however long ago, as far as it is remembered.
        last: Option<Arc<Word>>,
    },
}

type Heard = Result<Arc<Word>, Unavailable>;

/// The backend's words; clones share one memory.
#[derive(Clone)]
pub struct Verdicts(Option<Arc<Inner>>);

struct Inner {
    ask: Box<dyn Ask>,
    words: Words,
    pause: Pause,
    turns: Semaphore,
    queue: Mutex<Queue>,
    standing: Mutex<Standing>,
    metrics: BackendMetrics,
}

/// Questions that have no answer yet.
#[derive(Default)]
struct Queue {
    waiting: Vec<ImageDigest>,
    gathering: bool,
    in_flight: HashMap<Sha256Digest, watch::Sender<Option<Heard>>>,
}

/// How the backend was last met.
#[derive(Default)]
struct Standing {
    answered_at: Option<Timestamp>,
    failed: Option<(Timestamp, Unavailable)>,
    reachable: Option<bool>,
}

impl std::fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Verdicts").field(&self.0.as_ref().map(|inner| inner.ask.place())).finish()
    }
}

impl Verdicts {
    /// Of a backend.
    pub fn new(ask: impl Ask, metrics: BackendMetrics) -> Self {
        Self(Some(Arc::new(Inner {
            ask: Box::new(ask),
            words: Words::new(),
            pause: Pause::default(),
            turns: Semaphore::new(AT_ONCE),
            queue: Mutex::default(),
            standing: Mutex::default(),
            metrics,
        })))
    }

    /// Of no backend: every question is unavailable.
    pub fn not_configured() -> Self {
        Self(None)
    }

    /// What the backend says of an image now. Past `deadline` it is unavailable, and the question goes on for the next
    /// who asks.
    pub async fn ask(&self, image: &ImageDigest, deadline: Instant) -> Told {
        let Some(inner) = &self.0 else {
            return Told::Unavailable { why: Unavailable::not_configured(), last: None };
        };
        let last = inner.words.get(&image.digest).await;
        if let Some(word) = last.as_ref().filter(|word| word.is_fresh()) {
            inner.metrics.hit();
            return Told::Now(word.clone());
        }
        inner.metrics.missed();
        match inner.heard(image, deadline).await {
            Ok(word) => Told::Now(word),
            Err(why) => {
                inner.metrics.unavailable(why.cause);
                Told::Unavailable { why, last }
            }
        }
    }

    /// How the backend was last met, for a person who looks at `/status`; no secret is in it.
    pub fn status(&self) -> Value {
        let Some(inner) = &self.0 else { return json!({"configured": false}) };
        let standing = inner.standing.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "configured": true,
            "url": inner.ask.place(),
            "reachable": standing.reachable,
            "answeredAt": standing.answered_at,
            "failure": standing.failed.as_ref().map(|(at, why)| json!({
                "at": at, "cause": why.category(), "detail": why.detail,
            })),
        })
    }
}

impl Inner {
    async fn heard(self: &Arc<Self>, image: &ImageDigest, deadline: Instant) -> Heard {
        let lost = || Unavailable::new(Cause::Failed, "the question was given up");
        let mut answer = self.join(image)?;
        match timeout_at(deadline, answer.wait_for(Option::is_some)).await {
            Ok(Ok(heard)) => heard.clone().unwrap_or_else(|| Err(lost())),
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(Unavailable::new(Cause::Deadline, "the backend did not answer in time for this request")),
        }
    }

    /// Joins an equal question, or puts one.
    fn join(self: &Arc<Self>, image: &ImageDigest) -> Result<watch::Receiver<Option<Heard>>, Unavailable> {
        let mut queue = self.queue();
        if let Some(answer) = queue.in_flight.get(&image.digest) {
            return Ok(answer.subscribe());
        }
        if queue.in_flight.len() >= MAX_IN_FLIGHT {
            return Err(Unavailable::new(Cause::Overload, "too many images wait for the backend's word"));
        }
        let (answer, answered) = watch::channel(None);
        queue.in_flight.insert(image.digest.clone(), answer);
        queue.waiting.push(image.clone());
        if !std::mem::replace(&mut queue.gathering, true) {
            tokio::spawn(self.clone().gather());
        }
        Ok(answered)
    }

    async fn gather(self: Arc<Self>) {
        sleep(GATHER).await;
        let mut waiting = {
            let mut queue = self.queue();
            queue.gathering = false;
            std::mem::take(&mut queue.waiting)
        };
        waiting.sort();
        for images in waiting.chunks(MAX_IMAGES) {
            tokio::spawn(Batch { inner: self.clone(), images: images.to_vec() }.put());
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, images: &[ImageDigest]) -> Result<Vec<ImageVerdict>, Unavailable> {
        let closed = |_| Unavailable::new(Cause::Overload, "no more questions are put");
        let _permit = self.turns.acquire().await.map_err(closed)?;
        let turn = self.pause.turn()?;
        let began = Instant::now();
        let answer = match timeout(BATCH_TIMEOUT, self.ask.ask(images)).await {
            Ok(answer) => answer,
            Err(_) => Err(Unavailable::new(Cause::Timeout, "no whole answer in time")),
        };
        self.metrics.asked(answer.as_ref().err().map(|why| why.cause), began.elapsed());
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match &answer {
            Ok(_) => {
                turn.answered();
                if standing.reachable.replace(true) == Some(false) {
                    tracing::info!(backend = self.ask.place(), "the backend answers again");
                }
                standing.answered_at = Some(Timestamp::now());
            }
            Err(why) => {
                turn.failed(why);
                if standing.reachable.replace(false) != Some(false) {
                    tracing::warn!(backend = self.ask.place(), category = why.category(), %why, "the backend does not answer");
                }
                standing.failed = Some((Timestamp::now(), why.clone()));
            }
        }
        answer
    }
}

/// Some images that are asked about together. Whatever becomes of it, nobody waits for it in vain.
struct Batch {
    inner: Arc<Inner>,
    images: Vec<ImageDigest>,
}

impl Batch {
    async fn put(mut self) {
        match self.inner.answer(&self.images).await {
            Err(why) => self.settle_all(&why),
            Ok(said) => {
                let mut words = self.words(said);
                // An image leaves the batch when it is settled: cut off in between, the rest is settled as given up.
                while let Some(ImageDigest { digest, .. }) = self.images.last().cloned() {
                    let word = Arc::new(words.remove(&digest).map_or_else(Word::silence, Word::heard));
                    // Remembered first: who asks next finds it there or still in flight.
                    self.inner.words.learn(digest.clone(), word.clone()).await;
                    self.settle(&digest, Ok(word));
                    self.images.pop();
                }
            }
        }
    }

    /// What was said of the images that were asked about; said twice, the strictest counts.
    fn words(&self, said: Vec<ImageVerdict>) -> BTreeMap<Sha256Digest, ImageVerdict> {
        let mut words = BTreeMap::<Sha256Digest, ImageVerdict>::new();
        let mut ignored = 0;
        for verdict in said {
            if !self.images.iter().any(|image| image.digest == verdict.digest) {
                ignored += 1;
            } else if words.get(&verdict.digest).is_none_or(|o| o.verdict.strictness() < verdict.verdict.strictness()) {
                words.insert(verdict.digest.clone(), verdict);
            }
        }
        self.inner.metrics.ignored(ignored);
        words
    }

    fn settle_all(&mut self, why: &Unavailable) {
        for ImageDigest { digest, .. } in std::mem::take(&mut self.images) {
            self.settle(&digest, Err(why.clone()));
        }
    }

    fn settle(&self, digest: &Sha256Digest, heard: Heard) {
        if let Some(answer) = self.inner.queue().in_flight.remove(digest) {
            answer.send_replace(Some(heard));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.settle_all(&Unavailable::new(Cause::Failed, "the question was given up"));
    }
}

#[cfg(test)]
mod tests;
