//! The worker: it carries out what was decided, several scans at once, none waiting for another's registry.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::task::JoinSet;
use zastava_crds::finding::{ScanPhase, ScanStatus};

use super::{
    decide::{Job, Memory, decide, later, pause},
    delta::{Delta, Place},
    outcome::{self, Answer},
    source::{SbomSource, Unavailable},
    terms::Terms,
    write::write,
};
use crate::{
    finding::{
        FindingMetrics,
        store::{ApiStore, FindingStore, StoreError},
    },
    leader::Leadership,
    policy::Policies,
};

/// Scans at once.
const AT_ONCE: usize = 8;
/// Findings change many times a second while something goes on: one look is enough for all of them.
const SETTLE: Duration = Duration::from_millis(200);
/// Looks without a change, at the latest after this long.
const LOOK: Duration = Duration::from_mins(1);

/// What came of a job.
pub(super) struct Finished {
    delta: Delta,
    /// When its findings may be tried again.
    not_before: Vec<(Place, Timestamp)>,
    result: Result<(), StoreError>,
}

/// Scans, those that run and those to come.
pub(super) struct Worker<S, B> {
    store: S,
    source: Arc<B>,
    metrics: FindingMetrics,
    memory: Memory,
    jobs: JoinSet<Finished>,
}

impl<S: FindingStore + Clone + 'static, B: SbomSource> Worker<S, B> {
    pub(super) fn new(store: S, source: B, metrics: FindingMetrics) -> Self {
        Self { store, source: Arc::new(source), metrics, memory: Memory::default(), jobs: JoinSet::new() }
    }

    /// Starts what is due and has room. Returns when to look again, though nothing changes.
    pub(super) fn look(&mut self, terms: &Terms, now: Timestamp) -> Option<Timestamp> {
        let decision = decide(&self.store.all(), terms, &self.memory, now);
        let room = AT_ONCE.saturating_sub(self.jobs.len());
        for job in decision.jobs.into_iter().take(room) {
            self.memory.running.insert(job.delta.clone());
            let (store, source, metrics) = (self.store.clone(), self.source.clone(), self.metrics.clone());
            self.jobs.spawn(async move { carry_out(&store, &*source, &metrics, job).await });
        }
        decision.next
    }

    /// Waits for the end of a scan; never returns while none runs.
    pub(super) async fn finished(&mut self) {
        match self.jobs.join_next().await {
            Some(Ok(finished)) => {
                self.memory.running.remove(&finished.delta);
                self.memory.not_before.retain(|_, at| *at > Timestamp::now());
                self.memory.not_before.extend(finished.not_before);
                if let Err(error) = finished.result {
                    tracing::debug!(%error, category = error.category(), "a scan could not be written down yet");
                }
            }
            Some(Err(error)) => {
                tracing::error!(%error, "a scan broke off");
                // Which one is not told; it is tried again when the others have ended.
                if self.jobs.is_empty() {
                    self.memory.running.clear();
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Forgets what runs: another replica leads.
    fn stop(&mut self) {
        self.jobs = JoinSet::new();
        self.memory = Memory::default();
    }
}

/// Scans while this replica leads.
pub(super) async fn run<B: SbomSource>(
    mut worker: Worker<ApiStore, B>,
    leadership: Leadership,
    mut policies: Policies,
) {
    policies.synced().await;
    let mut changes = worker.store.changes();
    let mut term = 0;
    loop {
        if leadership.claim().is_err() {
            worker.stop();
            term = leadership.next_term(term).await;
        }
        let now = Timestamp::now();
        let next = worker.look(&Terms::of(&policies.all()), now);
        let wait = next.map_or(LOOK, |next| next.duration_since(now).unsigned_abs().min(LOOK));
        tokio::select! {
            () = worker.finished() => continue,
            () = leadership.until_lost() => continue,
            () = policies.changed() => {}
            alive = changes.changed() => if alive.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Writes the request down, makes the scan, and writes its answer down.
async fn carry_out<S: FindingStore, B: SbomSource>(
    store: &S,
    source: &B,
    metrics: &FindingMetrics,
    job: Job,
) -> Finished {
    let Job { delta, node, members, known } = job;
    let mut finished = Finished { delta, not_before: Vec::new(), result: Ok(()) };
    let mut asked = Vec::with_capacity(members.len());
    for place in members {
        match ask(store, &place, &finished.delta).await {
            Ok(true) => asked.push(place),
            Ok(false) => {}
            Err(error) => finished.put_off(place, error),
        }
    }
    if asked.is_empty() {
        return finished;
    }
    let told = match known {
        Some(scan) => Told::Again(scan),
        None => Told::Now(source.judge(&finished.delta, node.as_deref()).await),
    };
    metrics.scanned(told.category());
    for place in asked {
        match tell(store, &place, &finished.delta, &told).await {
            Ok(Some(scan)) => finished.not_before.extend(told.next(&scan).map(|at| (place, at))),
            Ok(None) => {}
            Err(error) => finished.put_off(place, error),
        }
    }
    finished
}

impl Finished {
    /// It could not be written down: the next look must not come at once.
    fn put_off(&mut self, place: Place, error: StoreError) {
        self.not_before.push((place, later(Timestamp::now(), pause(1))));
        self.result = Err(error);
    }
}

/// Makes the finding's scan one of this delta that is pending. False: the finding speaks of something else by now.
async fn ask<S: FindingStore>(store: &S, place: &Place, delta: &Delta) -> Result<bool, StoreError> {
    let now = Timestamp::now();
    let is_asked = |scan: &ScanStatus| scan.phase == ScanPhase::Pending && scan.sha256 == delta.sha256;
    let asks = AtomicBool::new(false);
    write(store, place, |status| {
        let speaks_of_it = status.evidence.as_ref().is_some_and(|evidence| evidence.sha256 == delta.sha256);
        asks.store(speaks_of_it, Ordering::Relaxed);
        let is_new = speaks_of_it && !status.scan.as_ref().is_some_and(is_asked);
        is_new.then(|| outcome::pending(delta.sha256.clone(), now))
    })
    .await?;
    Ok(asks.into_inner())
}

/// Writes the answer, if the finding still waits for it. Returns what was written.
async fn tell<S: FindingStore>(
    store: &S,
    place: &Place,
    delta: &Delta,
    told: &Told,
) -> Result<Option<ScanStatus>, StoreError> {
    let now = Timestamp::now();
    write(store, place, |status| {
        let scan = status.scan.as_ref()?;
        (scan.phase == ScanPhase::Pending && scan.sha256 == delta.sha256).then(|| told.onto(scan, now))
    })
    .await
}

enum Told {
    Now(Result<Answer, Unavailable>),
    /// The answer of another finding of the same delta.
    Again(ScanStatus),
}

impl Told {
    fn category(&self) -> &'static str {
        match self {
            Self::Now(Ok(Answer::Known { .. })) => "known",
            Self::Now(Ok(Answer::Modified { .. })) => "modified",
            Self::Now(Ok(Answer::Unknown)) => "unknown",
            Self::Now(Ok(Answer::Silent(_))) => "silent",
            Self::Now(Err(unavailable)) => unavailable.category,
            Self::Again(_) => "shared",
        }
    }

    /// The scan with this told.
    fn onto(&self, scan: &ScanStatus, now: Timestamp) -> ScanStatus {
        match self {
            Self::Now(Ok(answer)) => outcome::done(scan, answer, now),
            Self::Now(Err(unavailable)) => outcome::failed(scan, &unavailable.message, now),
            // With the time of the scan that was made, or an answer could be passed on for ever.
            Self::Again(known) => {
                ScanStatus { requested_at: scan.requested_at.clone(), attempts: scan.attempts, ..known.clone() }
            }
        }
    }

    /// When a scan that is still pending may be tried again.
    fn next(&self, scan: &ScanStatus) -> Option<Timestamp> {
        let asked = match self {
            Self::Now(Err(unavailable)) => unavailable.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        (scan.phase == ScanPhase::Pending).then(|| later(Timestamp::now(), pause(scan.attempts).max(asked)))
    }
}
