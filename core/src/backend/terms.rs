//! What a policy makes of the backend's word: `spec.admission.verdict`, the same for whoever asks.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use zastava_crds::{
    policy::{OnUnavailable, VerdictSpec},
    wire::verdict::VerdictWord,
};

use super::{
    Cause, Unavailable,
    verdicts::{Told, Word},
};

/// Name of the requirement, as denials give it.
pub const REQUIREMENT: &str = "verdict";

/// `spec.admission.verdict`, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    required: bool,
    on_unavailable: OnUnavailable,
    max_age: Option<Duration>,
}

/// A duration that does not parse.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("verdict.maxAge: {0:?} is not a duration such as 24h")]
pub struct TermsError(String);

impl TermsError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        "verdict_max_age"
    }
}

/// What a policy makes of a word, or of its lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weighed {
    /// The image passes.
    Accepted(Option<Note>),
    /// The backend refuses it.
    Refused(Lack),
    /// The image is not approved, and may be later: a pod is refused, a template's pods will be asked about.
    Open(Lack),
}

/// Why an image does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What was found instead of an approval.
    pub found: String,
    /// What to do.
    pub next_step: String,
}

/// What is worth telling of an image that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which case.
    pub kind: NoteKind,
    /// In one line.
    pub text: String,
}

/// What is worth telling, from a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum NoteKind {
    /// The backend approves, with a warning.
    Warned,
    /// The backend does not approve, and the policy does not require that it does.
    Advised,
    /// The backend can't be asked: its last word was taken.
    LastKnown,
    /// The backend can't be asked, and the policy lets the image in.
    Unavailable,
}

impl Terms {
    /// From a policy.
    ///
    /// # Errors
    /// [`TermsError`], for a policy that is older than the rule of its schema.
    pub fn of(spec: &VerdictSpec) -> Result<Self, TermsError> {
        let parse = |text: &String| {
            let age = text.parse::<SignedDuration>().ok().and_then(|age| Duration::try_from(age).ok());
            age.ok_or_else(|| TermsError(text.clone()))
        };
        Ok(Self {
            required: spec.required,
            on_unavailable: spec.on_unavailable.unwrap_or(OnUnavailable::Deny),
            max_age: spec.max_age.as_ref().map(parse).transpose()?,
        })
    }

    /// What they make of what was told, at `now`.
    pub fn weigh(&self, told: &Told, now: Timestamp) -> Weighed {
        match told {
            Told::Now(word) if self.required => self.required(word, now),
            Told::Now(word) if word.verdict == VerdictWord::Pass => Weighed::Accepted(None),
            Told::Now(word) => accepted(NoteKind::Advised, said(word)),
            Told::Unavailable { why, .. } if !self.required => accepted(NoteKind::Unavailable, cant_be_asked(why)),
            Told::Unavailable { why, last } => self.without(why, last.as_ref(), now),
        }
    }

    fn required(&self, word: &Word, now: Timestamp) -> Weighed {
        if self.is_too_old(word, now) {
            let found = format!("{}, said {} ago: more than verdict.maxAge", said(word), ago(word, now));
            return Weighed::Open(Lack { found, next_step: "have the backend look at the image again".to_owned() });
        }
        let lack = || Lack { found: said(word), next_step: next_step(word) };
        match word.verdict {
            VerdictWord::Pass => Weighed::Accepted(None),
            VerdictWord::Warn => accepted(NoteKind::Warned, said(word)),
            VerdictWord::Unknown => Weighed::Open(lack()),
            VerdictWord::Fail => Weighed::Refused(lack()),
        }
    }

    fn without(&self, why: &Unavailable, last: Option<&Arc<Word>>, now: Timestamp) -> Weighed {
        let last = last.filter(|word| !self.is_too_old(word, now));
        let open = || {
            let next_step = match why.cause {
                Cause::NotConfigured => "set backend.url in the chart's values, or take verdict out of the policy",
                Cause::Credential => "look at the Secret that backend.auth names",
                Cause::Tenant => "look at tenant and backend.project in the chart's values, and at the backend",
                _ => "try again; if it stays so, look at the backend and at Zastava's way to it",
            };
            Weighed::Open(Lack { found: cant_be_asked(why), next_step: next_step.to_owned() })
        };
        // Who answers for another tenant is no backend that is down.
        if why.cause == Cause::Tenant {
            return open();
        }
        let then = |word: &Word| format!("{}, said {} ago; {}", said(word), ago(word, now), cant_be_asked(why));
        match (self.on_unavailable, last) {
            // An outage approves nothing that the backend was heard to refuse.
            (OnUnavailable::Allow | OnUnavailable::LastKnown, Some(word)) if word.verdict == VerdictWord::Fail => {
                Weighed::Refused(Lack { found: then(word), next_step: next_step(word) })
            }
            (OnUnavailable::LastKnown, Some(word)) if word.verdict != VerdictWord::Unknown => {
                accepted(NoteKind::LastKnown, then(word))
            }
            (OnUnavailable::Allow, _) => accepted(NoteKind::Unavailable, cant_be_asked(why)),
            (OnUnavailable::Deny | OnUnavailable::LastKnown, _) => open(),
        }
    }

    fn is_too_old(&self, word: &Word, now: Timestamp) -> bool {
        self.max_age.is_some_and(|max| word.age(now) > max)
    }
}

fn accepted(kind: NoteKind, text: String) -> Weighed {
    Weighed::Accepted(Some(Note { kind, text }))
}

/// Such as `the backend says fail: 2 critical vulnerabilities (revision 7)`.
fn said(word: &Word) -> String {
    let reason = word.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let revision = if word.revision.is_empty() { String::new() } else { format!(" (revision {})", word.revision) };
    format!("the backend says {}{reason}{revision}", word.verdict)
}

fn next_step(word: &Word) -> String {
    match &word.link {
        Some(link) => format!("see {link}"),
        None if word.verdict == VerdictWord::Unknown => "have the image scanned, then apply it again".to_owned(),
        None => "mend the image, or have it accepted in the backend".to_owned(),
    }
}

fn cant_be_asked(why: &Unavailable) -> String {
    format!("the backend can't be asked: {}", why.detail)
}

/// Such as `5m 3s`.
fn ago(word: &Word, now: Timestamp) -> String {
    let seconds = i64::try_from(word.age(now).as_secs()).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use zastava_crds::{digest::Sha256Digest, wire::verdict::ImageVerdict};

    use super::*;

    fn word(verdict: VerdictWord, age_seconds: i64, now: Timestamp) -> Arc<Word> {
        Arc::new(Word::heard(ImageVerdict {
            digest: Sha256Digest::of(b""),
            verdict,
            reason: Some("2 critical".to_owned()),
            link: Some("https://s.example/1".to_owned()),
            policy_revision: "7".to_owned(),
            issued_at: now - SignedDuration::from_secs(age_seconds),
            ttl_seconds: None,
        }))
    }

    fn terms(required: bool, on_unavailable: OnUnavailable) -> Terms {
        Terms { required, on_unavailable, max_age: Some(Duration::from_mins(1)) }
    }

    fn kind(weighed: &Weighed) -> String {
        match weighed {
            Weighed::Accepted(None) => "accepted".to_owned(),
            Weighed::Accepted(Some(note)) => <&str>::from(note.kind).to_owned(),
            Weighed::Refused(_) => "refused".to_owned(),
            Weighed::Open(_) => "open".to_owned(),
        }
    }

    #[tokio::test]
    async fn only_pass_and_warn_approve() {
        let now = Timestamp::now();
        for (verdict, required, advisory) in [
            (VerdictWord::Pass, "accepted", "accepted"),
            (VerdictWord::Warn, "warned", "advised"),
            (VerdictWord::Unknown, "open", "advised"),
            (VerdictWord::Fail, "refused", "advised"),
        ] {
            let told = Told::Now(word(verdict, 0, now));
            for on_unavailable in [OnUnavailable::Deny, OnUnavailable::Allow, OnUnavailable::LastKnown] {
                assert_eq!(kind(&terms(true, on_unavailable).weigh(&told, now)), required, "{verdict}");
                assert_eq!(kind(&terms(false, on_unavailable).weigh(&told, now)), advisory, "{verdict}");
            }
        }
        let Weighed::Refused(lack) =
            terms(true, OnUnavailable::Deny).weigh(&Told::Now(word(VerdictWord::Fail, 0, now)), now)
        else {
            panic!("not refused")
        };
        assert_eq!(lack.found, "the backend says fail: 2 critical (revision 7)");
        assert_eq!(lack.next_step, "see https://s.example/1");
    }

    #[tokio::test]
    async fn a_word_older_than_the_policy_allows_is_none() {
        let now = Timestamp::now();
        for verdict in [VerdictWord::Pass, VerdictWord::Warn, VerdictWord::Fail] {
            let weighed = terms(true, OnUnavailable::LastKnown).weigh(&Told::Now(word(verdict, 61, now)), now);
            assert_eq!(kind(&weighed), "open", "{verdict}");
        }
        assert_eq!(
            kind(&terms(true, OnUnavailable::Deny).weigh(&Told::Now(word(VerdictWord::Pass, 60, now)), now)),
            "accepted"
        );
    }

    #[tokio::test]
    async fn while_it_cant_be_asked_the_policy_decides_and_a_known_refusal_stays() {
        use OnUnavailable::{Allow, Deny, LastKnown};
        use VerdictWord::{Fail, Pass, Unknown, Warn};
        let now = Timestamp::now();
        for (on_unavailable, last, expected) in [
            (Deny, Some((Pass, 1)), "open"),
            (Deny, None, "open"),
            (Allow, None, "unavailable"),
            (Allow, Some((Pass, 1)), "unavailable"),
            (Allow, Some((Unknown, 1)), "unavailable"),
            (Allow, Some((Fail, 1)), "refused"),
            (Allow, Some((Fail, 61)), "unavailable"),
            (LastKnown, Some((Pass, 59)), "last_known"),
            (LastKnown, Some((Warn, 59)), "last_known"),
            (LastKnown, Some((Pass, 61)), "open"),
            (LastKnown, Some((Unknown, 1)), "open"),
            (LastKnown, Some((Fail, 1)), "refused"),
            (LastKnown, None, "open"),
        ] {
            let last = last.map(|(verdict, age)| word(verdict, age, now));
            let told = |cause| Told::Unavailable { why: Unavailable::new(cause, "503"), last: last.clone() };
            let weighed = terms(true, on_unavailable).weigh(&told(Cause::Busy), now);
            assert_eq!(kind(&weighed), expected, "{on_unavailable:?} {last:?}");
            let foreign = terms(true, on_unavailable).weigh(&told(Cause::Tenant), now);
            assert_eq!(kind(&foreign), "open", "another tenant's answer approves nothing: {on_unavailable:?}");
            assert_eq!(kind(&terms(false, on_unavailable).weigh(&told(Cause::Busy), now)), "unavailable");
        }
    }

    #[test]
    fn ages_are_read_as_the_schema_lets_them_be_written() {
        let of =
            |max_age: &str| Terms::of(&VerdictSpec { max_age: Some(max_age.to_owned()), ..VerdictSpec::default() });
        assert_eq!(of("24h").unwrap().max_age, Some(Duration::from_hours(24)));
        assert_eq!(of("1h30m").unwrap().max_age, Some(Duration::from_mins(90)));
        assert_eq!(of("soon").unwrap_err(), TermsError("soon".to_owned()));
    }
}
