//! What is said about a policy: derived from what was applied, what the observers say, the pods and the findings. Pure.

mod observer;
mod posture;
mod webhook;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use zastava_crds::{
    canonical,
    condition::{self, ConditionStatus, reasons, types},
    policy::{FindingTotals, MatchedStatus, ZastavaPolicy, ZastavaPolicyStatus},
};

use super::coverage::Survey;
use crate::{
    posture::Outlook,
    rollout::{Installation, Refusal, Report, in_force},
};

/// Counters are written at most this often.
pub const COUNTERS_EVERY: Duration = Duration::from_secs(30);
/// The conditions that are ours; another's stay as they are.
const OURS: [&str; 7] = [
    types::READY,
    types::RECONCILING,
    types::STALLED,
    types::DEGRADED,
    types::OBSERVER_AVAILABLE,
    types::WEBHOOK_AVAILABLE,
    types::POSTURE_SATISFIED,
];

/// All that a policy's status is made of.
pub struct Scene<'a> {
    /// The policy, with the status it has.
    pub policy: &'a ZastavaPolicy,
    /// The installation.
    pub installation: &'a Installation,
    /// The outcome of the last rollout.
    pub report: &'a Report,
    /// The nodes that run its pods.
    pub survey: &'a Survey,
    /// Nodes that have not observed for longer than the grace.
    pub overdue: &'a (dyn Fn(&str) -> bool + Sync),
    /// The webhook has lacked replicas for longer than the grace.
    pub webhook_overdue: bool,
    /// Pods it speaks for, and those of them with an open finding.
    pub matched: MatchedStatus,
    /// Its open findings.
    pub findings: FindingTotals,
    /// How it stands with what runs; absent until that was looked at.
    pub posture: Option<&'a Outlook>,
    /// The time.
    pub now: Timestamp,
}

/// How one of the two ends stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    status: ConditionStatus,
    reason: &'static str,
    message: String,
    /// What is under way.
    progressing: Option<String>,
    /// What is missing: reason and words.
    degraded: Option<(&'static str, String)>,
}

impl Part {
    fn down(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status: ConditionStatus::False, reason, message, progressing: None, degraded: None }
    }

    fn up(message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::True, reason: reasons::AVAILABLE, ..Self::down("", message) }
    }

    fn starting(message: impl Into<String>) -> Self {
        let part = Self::down(reasons::PROGRESSING, message);
        Self { progressing: Some(part.message.clone()), ..part }
    }

    fn is_up(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// What has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Counters only: it can wait for its turn.
    Counters,
    /// It can't wait.
    Conditions,
}

/// The status of a policy as it should be. `countedAt` is the stored one, for the writer to move.
pub fn status(scene: &Scene<'_>) -> ZastavaPolicyStatus {
    let policy = scene.policy;
    let old = policy.status.clone().unwrap_or_default();
    let mut new = Writing {
        conditions: old.conditions.iter().filter(|c| OURS.contains(&c.type_.as_str())).cloned().collect(),
        generation: policy.metadata.generation.unwrap_or_default(),
        now: Time(scene.now),
    };
    let refusal = in_force(policy).err();
    if let Some(refusal) = &refusal {
        new.refused(refusal);
    } else {
        let observer = policy.spec.runtime.as_ref().map(|_| observer::part(scene));
        let webhook = policy.spec.admission.as_ref().map(|_| webhook::part(scene));
        new.in_force(scene, observer.as_ref(), webhook.as_ref());
        new.posture(scene);
    }
    let asked = refusal.is_none();
    ZastavaPolicyStatus {
        observed_generation: new.generation,
        conditions: new.conditions,
        policy_hash: if asked { canonical::hash(&policy.spec).ok() } else { None },
        observer: (asked && policy.spec.runtime.is_some()).then(|| observer::counters(scene)).flatten(),
        webhook: (asked && policy.spec.admission.is_some()).then(|| webhook::counters(scene)).flatten(),
        matched: Some(scene.matched.clone()),
        findings: Some(scene.findings.clone()),
        counted_at: old.counted_at,
    }
}

/// How much the two differ.
pub fn change(old: Option<&ZastavaPolicyStatus>, new: &ZastavaPolicyStatus) -> Change {
    let Some(old) = old else { return Change::Conditions };
    let core = |status: &ZastavaPolicyStatus| -> BTreeMap<String, (String, String)> {
        let ours = status.conditions.iter().filter(|c| OURS.contains(&c.type_.as_str()));
        ours.map(|c| (c.type_.clone(), (c.status.clone(), c.reason.clone()))).collect()
    };
    let whole = |status: &ZastavaPolicyStatus| {
        let mut status = status.clone();
        status.counted_at = None;
        status.conditions.retain(|c| OURS.contains(&c.type_.as_str()));
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status
    };
    if old.observed_generation != new.observed_generation
        || old.policy_hash != new.policy_hash
        || core(old) != core(new)
    {
        Change::Conditions
    } else if whole(old) != whole(new) {
        Change::Counters
    } else {
        Change::None
    }
}

struct Writing {
    conditions: Vec<Condition>,
    generation: i64,
    now: Time,
}

impl Writing {
    fn set(&mut self, type_: &str, status: ConditionStatus, reason: &str, message: &str) {
        condition::set(&mut self.conditions, type_, status, reason, message, self.generation, &self.now);
    }

    /// Sets a condition that is only there while it is true.
    fn abnormal(&mut self, type_: &str, why: Option<(&str, &str)>) {
        match why {
            Some((reason, message)) => self.set(type_, ConditionStatus::True, reason, message),
            None => {
                condition::clear(&mut self.conditions, type_);
            }
        }
    }

    fn refused(&mut self, refusal: &Refusal) {
        let (reason, message) = match refusal {
            Refusal::Suspended => {
                (reasons::SUSPENDED, "spec.suspend is true: the policy is out of force at both ends".into())
            }
            Refusal::Invalid(why) => (reasons::INVALID, format!("the policy is out of force: {why}")),
            Refusal::NotSupported(fields) => (
                reasons::NOT_SUPPORTED,
                format!("the policy is out of force, this version can't honour: {}", fields.join(", ")),
            ),
        };
        // A suspended policy is as a person wants it: nobody has to do anything.
        let stalled = !matches!(refusal, Refusal::Suspended);
        for type_ in [types::READY, types::OBSERVER_AVAILABLE, types::WEBHOOK_AVAILABLE] {
            self.set(type_, ConditionStatus::False, reason, &message);
        }
        self.abnormal(types::STALLED, stalled.then_some((reason, message.as_str())));
        self.abnormal(types::RECONCILING, None);
        self.abnormal(types::DEGRADED, None);
        self.abnormal(types::POSTURE_SATISFIED, None);
    }

    fn in_force(&mut self, scene: &Scene<'_>, observer: Option<&Part>, webhook: Option<&Part>) {
        for (type_, part, asks) in [
            (types::OBSERVER_AVAILABLE, observer, "spec.runtime"),
            (types::WEBHOOK_AVAILABLE, webhook, "spec.admission"),
        ] {
            if let Some(part) = part {
                self.set(type_, part.status, part.reason, &part.message);
            } else {
                let message = format!("the policy has no {asks}");
                self.set(type_, ConditionStatus::False, reasons::NOT_REQUESTED, &message);
            }
        }
        let parts: Vec<&Part> = [observer, webhook].into_iter().flatten().collect();
        let fault = scene.report.faults.first().map(|fault| format!("{}: {}", fault.object.describe(), fault.message));
        let down = parts.iter().find(|part| !part.is_up());
        match (&fault, down) {
            (Some(fault), _) => self.set(types::READY, ConditionStatus::False, reasons::APPLY_FAILED, fault),
            (None, Some(part)) => self.set(types::READY, ConditionStatus::False, part.reason, &part.message),
            (None, None) => {
                let messages: Vec<_> = parts.iter().map(|part| part.message.as_str()).collect();
                self.set(types::READY, ConditionStatus::True, reasons::AVAILABLE, &messages.join("; "));
            }
        }
        // Only a person can mend these.
        let stalls = |part: &&&Part| matches!(part.reason, reasons::ADMISSION_DISABLED | reasons::NOT_CONFIGURED);
        let stalled = parts.iter().find(stalls);
        self.abnormal(types::STALLED, stalled.map(|part| (part.reason, part.message.as_str())));
        let progressing = fault.as_deref().or_else(|| parts.iter().find_map(|part| part.progressing.as_deref()));
        self.abnormal(types::RECONCILING, progressing.map(|message| (reasons::PROGRESSING, message)));
        let degraded: Vec<_> = parts.iter().filter_map(|part| part.degraded.as_ref()).collect();
        let message = degraded.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>().join("; ");
        self.abnormal(types::DEGRADED, degraded.first().map(|(reason, _)| (*reason, message.as_str())));
    }
}

#[cfg(test)]
mod tests;
