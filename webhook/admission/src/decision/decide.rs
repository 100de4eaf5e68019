//! From what one policy says about each image to the answer for the request.

use std::collections::BTreeMap;

use jiff::Timestamp;
use zastava_core::backend::terms::NoteKind;
use zastava_crds::{
    digest::ImageDigest,
    policy::{FailurePolicy, Mode},
    wire::{
        event::Severity,
        report::{AdmissionOutcome, AdmissionRecord, DECISION_SCHEMA},
    },
};

use super::{
    judgement::{Judged, Judgement, Problem, Used},
    text::{self, Told},
};
use crate::{
    policies::policy::Policy,
    review::{images::ImageUse, request::Workload},
};

/// Bytes of a record's message at most, by its schema.
const MAX_RECORD_MESSAGE: usize = 1024;
/// Images that audit annotations tell of at most.
const MAX_ANNOTATED: usize = 8;

/// How an answer ended, mildest first: the strictest image counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The policy does not speak for it.
    NotApplicable,
    /// Every image that is asked about satisfies.
    Allowed,
    /// An exception of the policy covers one.
    Excepted,
    /// A template's image could not be verified; its pods will be asked about.
    Deferred,
    /// Would be refused under Enforce.
    WouldDeny,
    /// The same, and whoever applies was told.
    Warned,
    /// The verdict is unknown, and it was let in.
    AdmittedUnverified,
    /// Refused.
    Denied,
}

/// The answer to one request under one policy.
#[derive(Clone, Debug)]
pub struct Decision {
    /// How it ended.
    pub outcome: Outcome,
    /// Why it is refused, for the person who asked.
    pub message: Option<String>,
    /// Warnings for the same.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub annotations: BTreeMap<String, String>,
    /// For findings; empty on a dry run.
    pub records: Vec<AdmissionRecord>,
    /// What was worth telling of the backend's words, one an image.
    pub notes: Vec<NoteKind>,
}

/// What becomes of one image.
struct Consequence<'a> {
    outcome: Outcome,
    record: Option<AdmissionOutcome>,
    cause: Cause<'a>,
}

/// Why an image has a consequence.
#[derive(Clone, Copy)]
enum Cause<'a> {
    /// There is nothing to tell.
    None,
    /// It does not pass.
    Problem(&'a Problem),
    /// An exception lets it pass.
    Exception(&'a Used),
}

impl<'a> Cause<'a> {
    fn problem(self) -> Option<&'a Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::None | Self::Exception(_) => None,
        }
    }
}

fn consequence<'a>(policy: &Policy, template: bool, judged: &'a Judged) -> Consequence<'a> {
    use AdmissionOutcome as Record;
    let (outcome, record, cause) = match judged {
        Judged::NotSelected => (Outcome::NotApplicable, None, Cause::None),
        Judged::Satisfied { .. } => (Outcome::Allowed, None, Cause::None),
        // The pods of a template come with their own requests: theirs is the record, and the refusal.
        Judged::Excepted(used) => (Outcome::Excepted, (!template).then_some(Record::Excepted), Cause::Exception(used)),
        Judged::Failed(problem) => match policy.mode {
            Mode::Enforce => (Outcome::Denied, Some(Record::Denied), Cause::Problem(problem)),
            Mode::Warn => (Outcome::Warned, Some(Record::Warned), Cause::Problem(problem)),
            Mode::Audit => (Outcome::WouldDeny, Some(Record::WouldDeny), Cause::Problem(problem)),
        },
        Judged::Unknown(problem) if template => (Outcome::Deferred, None, Cause::Problem(problem)),
        Judged::Unknown(problem) => match (policy.mode, policy.on_unknown) {
            (Mode::Enforce, FailurePolicy::Fail) => (Outcome::Denied, Some(Record::Denied), Cause::Problem(problem)),
            _ => (Outcome::AdmittedUnverified, Some(Record::AdmittedUnverified), Cause::Problem(problem)),
        },
    };
    Consequence { outcome, record, cause }
}

/// Decides. `judgements` are those of every image that the request brings in.
pub fn decide(policy: &Policy, workload: &Workload, judgements: &[Judgement], now: Timestamp) -> Decision {
    let template = workload.kind.is_template();
    let consequences: Vec<_> = judgements.iter().map(|j| (j, consequence(policy, template, &j.judged))).collect();
    let outcome = consequences.iter().map(|(_, c)| c.outcome).max().unwrap_or(Outcome::NotApplicable);
    let told = |keep: fn(Outcome) -> bool| -> Vec<Told<'_>> {
        consequences
            .iter()
            .filter(|(_, c)| keep(c.outcome))
            .filter_map(|(j, c)| {
                let unknown = matches!(j.judged, Judged::Unknown(_));
                Some(Told { image: &j.image, problem: c.cause.problem()?, unknown })
            })
            .collect()
    };
    let refused = told(|outcome| outcome == Outcome::Denied);
    let warned = match policy.mode {
        Mode::Audit => Vec::new(),
        Mode::Warn | Mode::Enforce => told(|outcome| outcome != Outcome::Denied),
    };
    let records = if workload.dry_run {
        Vec::new()
    } else {
        let recorded = consequences.iter().filter_map(|(j, c)| Some((j, c.record?, c.cause)));
        recorded.filter_map(|(j, record, cause)| to_record(policy, workload, &j.image, record, cause, now)).collect()
    };
    let notes: Vec<_> = judgements.iter().filter_map(|j| Some((&j.image, j.judged.note()?))).collect();
    let mut warnings = text::warnings(policy, &warned);
    if policy.mode != Mode::Audit {
        let room = text::MAX_WARNINGS.saturating_sub(warnings.len());
        let worth = notes.iter().filter(|(_, note)| matches!(note.kind, NoteKind::Warned | NoteKind::Advised));
        warnings.extend(worth.take(room).map(|(image, note)| text::noted(policy, image, note)));
    }
    Decision {
        outcome,
        message: (!refused.is_empty()).then(|| text::refusal(policy, &refused, judgements.len())),
        warnings,
        annotations: annotations(policy, outcome, judgements, &told(|_| true)),
        records,
        notes: notes.iter().map(|(_, note)| note.kind).collect(),
    }
}

fn annotations(
    policy: &Policy,
    outcome: Outcome,
    judgements: &[Judgement],
    told: &[Told<'_>],
) -> BTreeMap<String, String> {
    let outcome: &'static str = outcome.into();
    let mut annotations = BTreeMap::from([
        ("decision".to_owned(), outcome.to_owned()),
        ("policy".to_owned(), policy.reference.name.clone()),
        ("policy-hash".to_owned(), policy.reference.hash.clone()),
    ]);
    let exceptions: Vec<_> = judgements
        .iter()
        .filter_map(|j| match &j.judged {
            Judged::Excepted(used) => {
                Some(text::bounded(&format!("{} {}: {used}", j.image.field, j.image.container), text::MAX_LINE))
            }
            _ => None,
        })
        .take(MAX_ANNOTATED)
        .collect();
    if !exceptions.is_empty() {
        annotations.insert("exceptions".to_owned(), exceptions.join("; "));
    }
    let verdicts: Vec<_> =
        judgements.iter().filter_map(|j| Some(text::note(&j.image, j.judged.note()?))).take(MAX_ANNOTATED).collect();
    if !verdicts.is_empty() {
        annotations.insert("verdicts".to_owned(), verdicts.join("; "));
    }
    for (i, told) in told.iter().take(MAX_ANNOTATED).enumerate() {
        annotations.insert(format!("image-{i}"), text::line(*told));
    }
    annotations
}

fn to_record(
    policy: &Policy,
    workload: &Workload,
    image: &ImageUse,
    outcome: AdmissionOutcome,
    cause: Cause<'_>,
    now: Timestamp,
) -> Option<AdmissionRecord> {
    let (digest, requirement, message) = match cause {
        Cause::None => return None,
        Cause::Problem(problem) => (
            problem.digest.clone(),
            problem.requirement.clone(),
            format!("{}; next: {}", problem.found, problem.next_step),
        ),
        Cause::Exception(used) => (None, format!("exceptions[{}]", used.name), format!("let in by exception {used}")),
    };
    Some(AdmissionRecord {
        schema: DECISION_SCHEMA.to_owned(),
        event_id: format!("{}/{}", workload.request_uid, image.container),
        decided_at: now,
        namespace: workload.namespace.clone(),
        workload: workload.owner.clone(),
        container: image.container.clone(),
        image: text::bounded(&image.reference, 512),
        digest: digest.or_else(|| written_digest(&image.reference)),
        outcome,
        policy: policy.reference.clone(),
        requirement: text::bounded(&requirement, 256),
        message: bytes_bounded(message),
        severity: severity(outcome),
    })
}

fn written_digest(reference: &str) -> Option<ImageDigest> {
    let digest = reference.split_once('@')?.1.parse().ok()?;
    Some(ImageDigest { kind: zastava_crds::digest::DigestKind::Unresolved, digest })
}

fn bytes_bounded(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_RECORD_MESSAGE));
    message
}

fn severity(outcome: AdmissionOutcome) -> Severity {
    match outcome {
        AdmissionOutcome::Denied | AdmissionOutcome::Warned | AdmissionOutcome::WouldDeny => Severity::Medium,
        AdmissionOutcome::AdmittedUnverified => Severity::Low,
        AdmissionOutcome::Excepted => Severity::Info,
    }
}
