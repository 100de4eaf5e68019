//! What registries answered, for how long that holds, and when to ask again. Lost with the lead: the next leader asks.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use jiff::Timestamp;
use zastava_crds::{digest::ImageDigest, wire::event::Severity};
use zastava_verify::{image::Platforms, requirement::PolicyIdentity};

use super::running::Running;

/// Without an answer for this long an image counts as one that nothing can be said of: a registry's restart is no news.
pub(super) const PATIENCE: Duration = Duration::from_mins(10);
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Part of the interval over which questions are spread.
const SPREAD: f64 = 0.15;

/// One question for all containers that run the same image. A changed policy, key or set of platforms is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// UID of the policy that asks.
    pub(super) uid: String,
    /// Its generation.
    pub(super) generation: i64,
    /// What it asks to be proven, with its keys; absent: it asks for the backend's word alone.
    pub(super) proof: Option<PolicyIdentity>,
    pub(super) running: Running,
    pub(super) platforms: Platforms,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// All that is asked was shown, and holds until then.
    Satisfied { until: Option<Timestamp> },
    /// It was shown that the image does not satisfy the policy.
    Violated(Violation),
    /// Nothing can be said.
    Unknown(Doubt),
}

/// What an image lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) severity: Severity,
    pub(super) digest: Option<ImageDigest>,
    pub(super) requirement: String,
    pub(super) found: String,
    pub(super) next_step: String,
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) message: String,
    pub(super) next_step: String,
    /// What the registry asked to wait.
    pub(super) retry_after: Option<Duration>,
}

/// What is to be taken for true now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Judged<'a> {
    Satisfied,
    Violated(&'a Violation),
    /// There was no answer for longer than a short outage takes.
    Unknown(&'a Doubt),
    /// There is no answer yet.
    Pending,
}

/// What was answered to one question.
#[derive(Clone, Debug, Default)]
struct Answer {
    /// The last word that was one, and when it came.
    word: Option<(Word, Timestamp)>,
    doubting: Option<Doubting>,
}

#[derive(Clone, Debug)]
struct Doubting {
    doubt: Doubt,
    since: Timestamp,
    last: Timestamp,
    tries: u32,
}

/// All answers.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<Question, Answer>);

impl Answers {
    /// Takes an answer in.
    pub(super) fn learn(&mut self, question: Question, word: Word, now: Timestamp) {
        let answer = self.0.entry(question).or_default();
        match word {
            Word::Unknown(doubt) => {
                let (since, tries) = answer.doubting.as_ref().map_or((now, 0), |old| (old.since, old.tries));
                answer.doubting = Some(Doubting { doubt, since, last: now, tries: tries.saturating_add(1) });
            }
            word => *answer = Answer { word: Some((word, now)), doubting: None },
        }
    }

    /// Forgets what nobody asks any more.
    pub(super) fn retain(&mut self, asked: impl Fn(&Question) -> bool) {
        self.0.retain(|question, _| asked(question));
    }

    /// What to take for true. While a registry is away, what it last said holds for a while; an old refusal for longer,
    /// and a pass that has run out not at all.
    pub(super) fn judge(&self, question: &Question, now: Timestamp) -> Judged<'_> {
        let Some(answer) = self.0.get(question) else { return Judged::Pending };
        let in_doubt = answer.doubting.as_ref().filter(|doubting| later(doubting.since, PATIENCE) <= now);
        match (&answer.word, in_doubt) {
            (Some((Word::Violated(violation), _)), _) => Judged::Violated(violation),
            (_, Some(doubting)) => Judged::Unknown(&doubting.doubt),
            (Some((Word::Satisfied { until }, _)), None) if until.is_none_or(|until| until > now) => Judged::Satisfied,
            _ => Judged::Pending,
        }
    }

    /// When to ask: at once what was never answered, else within the interval, and before a pass runs out.
    pub(super) fn due(&self, question: &Question, interval: Duration) -> Timestamp {
        let Some(answer) = self.0.get(question) else { return Timestamp::MIN };
        if let Some(Doubting { doubt, last, tries, .. }) = &answer.doubting {
            let pause =
                FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(LONGEST_PAUSE).min(interval);
            return later(*last, pause.max(doubt.retry_after.unwrap_or_default()));
        }
        let Some((word, at)) = &answer.word else { return Timestamp::MIN };
        let next = later(*at, spread(question, interval));
        match word {
            Word::Satisfied { until: Some(until) } => next.min(*until),
            _ => next,
        }
    }

    /// When a doubt becomes old enough to be told.
    pub(super) fn told_at(&self, question: &Question) -> Option<Timestamp> {
        Some(later(self.0.get(question)?.doubting.as_ref()?.since, PATIENCE))
    }
}

/// The same for a question each time, so that a herd that began together draws apart and stays so.
fn spread(question: &Question, interval: Duration) -> Duration {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(question);
    #[allow(clippy::cast_precision_loss, reason = "any number between 0 and 1 does")]
    let part = hash as f64 / u64::MAX as f64;
    interval.mul_f64(1.0 - SPREAD * part)
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
