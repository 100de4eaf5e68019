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
/// A pass is asked about anew this long before it runs out, or a tenth of the interval where that is less.
const MARGIN: Duration = Duration::from_mins(1);
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
    /// Who is asked has answered, and has not made up its mind: it is asked again in its turn.
    Open(Doubt),
    /// There is no answer: nothing can be said.
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
    /// There was no answer for longer than a short outage takes, or one that decides nothing.
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
            word => {
                let old = answer.word.take().map(|(old, _)| old);
                let word = match (word, old) {
                    // What decides nothing unsays no refusal.
                    (Word::Open(_), Some(refused @ Word::Violated(_))) => refused,
                    (word, _) => word,
                };
                *answer = Answer { word: Some((word, now)), doubting: None };
            }
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
            (Some((Word::Open(doubt), _)), None) => Judged::Unknown(doubt),
            (Some((Word::Satisfied { until }, _)), None) if until.is_none_or(|until| until > now) => Judged::Satisfied,
            _ => Judged::Pending,
        }
    }

    /// When to ask: at once what was never answered, else within the interval, a little before a pass runs out, and when
    /// it does.
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
            Word::Satisfied { until: Some(until) } => {
                let early = until.checked_sub(MARGIN.min(interval / 10)).unwrap_or(Timestamp::MIN);
                // Whoever has asked that late already waits for the end.
                next.min(if early > *at { early } else { *until })
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn question() -> Question {
        let (uid, running) = ("uid".to_owned(), Running::Unknown("a test"));
        Question { uid, generation: 1, proof: None, running, platforms: Platforms::Any }
    }

    fn doubt(message: &str) -> Doubt {
        Doubt { message: message.to_owned(), next_step: "wait".to_owned(), retry_after: None }
    }

    #[test]
    fn an_answer_that_decides_nothing_is_told_at_once_and_asked_for_again_in_its_turn() {
        let mut answers = Answers::default();
        answers.learn(question(), Word::Open(doubt("not approved")), at(0));
        assert_eq!(answers.judge(&question(), at(0)), Judged::Unknown(&doubt("not approved")));
        assert!(answers.due(&question(), HOUR) > at(3000), "no outage");
        let violation = Violation {
            severity: Severity::High,
            digest: None,
            requirement: "verdict".to_owned(),
            found: "fail".to_owned(),
            next_step: "mend it".to_owned(),
        };
        answers.learn(question(), Word::Violated(violation.clone()), at(10));
        answers.learn(question(), Word::Open(doubt("not approved")), at(20));
        assert_eq!(answers.judge(&question(), at(20)), Judged::Violated(&violation), "no refusal is unsaid");
        assert!(answers.due(&question(), HOUR) > at(3000));
        answers.learn(question(), Word::Satisfied { until: None }, at(30));
        answers.learn(question(), Word::Unknown(doubt("away")), at(40));
        assert_eq!(answers.judge(&question(), at(40)), Judged::Satisfied);
        assert_eq!(answers.due(&question(), HOUR), at(55), "an outage");
        answers.learn(question(), Word::Open(doubt("not approved")), at(50));
        assert_eq!(answers.judge(&question(), at(50)), Judged::Unknown(&doubt("not approved")), "a pass is");
    }

    #[test]
    fn what_runs_out_is_asked_about_a_little_earlier_and_not_over_and_over_then() {
        let due = |interval: Duration, asked: i64, until: i64| {
            let mut answers = Answers::default();
            answers.learn(question(), Word::Satisfied { until: Some(at(until)) }, at(asked));
            answers.due(&question(), interval)
        };
        assert_eq!(due(HOUR, 0, 1800), at(1740), "a minute earlier");
        assert_eq!(due(Duration::from_mins(5), 0, 200), at(170), "a tenth of the interval earlier");
        assert_eq!(due(HOUR, 1740, 1800), at(1800), "it was asked a little earlier already");
        assert!(due(HOUR, 0, 7200) < at(3600), "the interval comes first");
    }
}
