//! The loop: it looks whenever something that matters has changed, and asks what is due, a few questions at a time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    task::{self, JoinError, JoinSet},
};

use super::{
    Outlooks, PostureMetrics,
    answers::{Answers, Doubt, Question, Word},
    book::Book,
    examine::Examiner,
    reconcile::{self, Memory},
    survey::{Survey, World, survey},
};
use crate::{
    finding::{
        Caps,
        store::{ApiStore, FindingStore},
    },
    leader::Leadership,
    nodes::{ClusterNodes, RuleBook},
    pods::PodIndex,
};

/// Questions at once.
const AT_ONCE: usize = 4;
/// Changes come in bursts.
const SETTLE: Duration = Duration::from_millis(500);
/// Looks without a change, at the latest after this long.
const LOOK: Duration = Duration::from_mins(1);
/// A look after one that could not write.
const AGAIN: Duration = Duration::from_secs(5);

/// What the loop reads, and is woken by.
pub(super) struct Surroundings {
    pub(super) book: Book,
    pub(super) rules: RuleBook,
    pub(super) cluster: ClusterNodes,
    pub(super) pods: PodIndex,
}

/// Asks, and tells what it was told.
pub(super) struct Worker<S, E> {
    store: S,
    caps: Caps,
    examiner: Arc<E>,
    metrics: PostureMetrics,
    outlooks: watch::Sender<Outlooks>,
    answers: Answers,
    memory: Memory,
    /// By the task that asks it; a few at a time.
    running: HashMap<task::Id, Question>,
    jobs: JoinSet<(Word, &'static str)>,
}

impl<S: FindingStore, E: Examiner> Worker<S, E> {
    pub(super) fn new(store: S, caps: Caps, examiner: E, metrics: PostureMetrics) -> (Self, watch::Receiver<Outlooks>) {
        let (outlooks, told) = watch::channel(Outlooks::default());
        let worker = Self {
            store,
            caps,
            examiner: Arc::new(examiner),
            metrics,
            outlooks,
            answers: Answers::default(),
            memory: Memory::default(),
            running: HashMap::new(),
            jobs: JoinSet::new(),
        };
        (worker, told)
    }

    /// One look at everything: findings are made what is known, and what is due is asked. Says when to look again, though
    /// nothing changes.
    pub(super) async fn look(&mut self, world: &World, now: Timestamp) -> Option<Timestamp> {
        // Checks that ended meanwhile take no room.
        while let Some(ended) = self.jobs.try_join_next_with_id() {
            self.learn(ended, now);
        }
        let survey = survey(world, &self.answers, now);
        self.answers.retain(|question| survey.questions.contains_key(question));
        let written =
            reconcile::reconcile(&self.store, &self.caps, &survey, &mut self.memory, &self.metrics, now).await;
        let due = self.ask(&survey, now);
        self.outlooks.send_if_modified(|old| {
            let changed = **old != survey.outlooks;
            if changed {
                *old = Arc::new(survey.outlooks);
            }
            changed
        });
        let again = written.failed.then(|| super::answers::later(now, AGAIN));
        [survey.next, written.next, due, again].into_iter().flatten().min()
    }

    /// Starts the questions that are due, the longest due first. Says when the next one is.
    fn ask(&mut self, survey: &Survey, now: Timestamp) -> Option<Timestamp> {
        let (mut due, mut next) = (Vec::new(), None::<Timestamp>);
        for (question, asked) in &survey.questions {
            if self.running.values().any(|one| one == question) {
                continue;
            }
            let at = self.answers.due(question, asked.interval);
            if at <= now {
                due.push((at, question, asked));
            } else {
                let told = self.answers.told_at(question).filter(|at| *at > now);
                next = next.into_iter().chain([at]).chain(told).min();
            }
        }
        due.sort_by_key(|(at, ..)| *at);
        self.metrics.looked(survey.questions.len(), due.len() + self.running.len(), now);
        let room = AT_ONCE.saturating_sub(self.jobs.len());
        for (_, question, asked) in due.into_iter().take(room) {
            let (examiner, put, asked) = (self.examiner.clone(), question.clone(), asked.clone());
            let task = self.jobs.spawn(async move { examiner.examine(&put, &asked).await });
            self.running.insert(task.id(), question.clone());
        }
        next
    }

    /// Waits for an answer, and takes in all that are there; never returns while nothing is asked.
    pub(super) async fn answered(&mut self, clock: impl Fn() -> Timestamp) {
        let Some(first) = self.jobs.join_next_with_id().await else { return std::future::pending().await };
        let mut next = Some(first);
        while let Some(ended) = next {
            self.learn(ended, clock());
            next = self.jobs.try_join_next_with_id();
        }
    }

    fn learn(&mut self, ended: Result<(task::Id, (Word, &'static str)), JoinError>, now: Timestamp) {
        let (id, (word, category)) = ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a check of a running image broke off");
            let (message, next_step) = ("its check broke off".to_owned(), "look at the operator's log".to_owned());
            (error.id(), (Word::Unknown(Doubt { message, next_step, retry_after: None }), "broken_off"))
        });
        if let Some(question) = self.running.remove(&id) {
            self.metrics.checked(category);
            self.answers.learn(question, word, now);
        }
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Forgets everything: another replica leads.
    fn stop(&mut self) {
        self.jobs = JoinSet::new();
        self.running.clear();
        self.answers = Answers::default();
        self.memory = Memory::default();
        self.outlooks.send_replace(Arc::new(HashMap::new()));
    }
}

/// Looks while this replica leads.
pub(super) async fn run<E: Examiner>(mut worker: Worker<ApiStore, E>, leadership: Leadership, around: Surroundings) {
    let Surroundings { mut book, rules, mut cluster, pods } = around;
    let (mut moved, mut findings) = (pods.changes(), worker.store.changes());
    let mut term = 0;
    loop {
        if leadership.claim().is_err() {
            worker.stop();
            term = leadership.next_term(term).await;
        }
        let (policies, known, platforms) = (book.now(), rules.current(), cluster.platforms());
        let hash = known.as_ref().map(|rules| rules.hash.clone()).unwrap_or_default();
        let mut next = None;
        let asking = policies.as_ref().is_none_or(|policies| !policies.is_empty());
        // Of what was not read yet nothing may be resolved.
        if let (Some(policies), Some(known), Some(platforms), true) = (policies, known, platforms, pods.synced()) {
            // Without a policy that asks, what runs is nobody's business, and what was found is resolved without it.
            let pods = if asking { pods.live() } else { Vec::new() };
            let world = World { policies, pods, rules: known, platforms };
            next = worker.look(&world, Timestamp::now()).await;
        }
        let wait = next.map_or(LOOK, |next| next.duration_since(Timestamp::now()).try_into().unwrap_or_default());
        tokio::select! {
            () = worker.answered(Timestamp::now) => {}
            () = leadership.until_lost() => continue,
            () = book.changed() => {}
            _ = rules.other_than(&hash) => {}
            () = cluster.changed() => {}
            alive = moved.changed(), if asking => if alive.is_err() { return },
            alive = findings.changed() => if alive.is_err() { return },
            () = tokio::time::sleep(wait.min(LOOK)) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}
