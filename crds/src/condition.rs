//! Conditions by the conventions of the Kubernetes API and kstatus: a closed vocabulary, and one way to set them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Types of conditions.
pub mod types {
    /// The policy is in force everywhere it should be.
    pub const READY: &str = "Ready";
    /// Work is under way; absent otherwise.
    pub const RECONCILING: &str = "Reconciling";
    /// A person must change something; absent otherwise.
    pub const STALLED: &str = "Stalled";
    /// A part is missing although the policy is in force; absent otherwise.
    pub const DEGRADED: &str = "Degraded";
    /// The observers do their work.
    pub const OBSERVER_AVAILABLE: &str = "ObserverAvailable";
    /// The webhook does its work.
    pub const WEBHOOK_AVAILABLE: &str = "WebhookAvailable";
    /// Whatever runs still satisfies the policy; absent where it does not ask for that.
    pub const POSTURE_SATISFIED: &str = "PostureSatisfied";
}

/// Reasons of conditions.
pub mod reasons {
    /// All is well.
    pub const AVAILABLE: &str = "Available";
    /// Objects were applied and are not yet in force.
    pub const PROGRESSING: &str = "Progressing";
    /// `spec.suspend` is true.
    pub const SUSPENDED: &str = "Suspended";
    /// A field can't be honoured by this version.
    pub const NOT_SUPPORTED: &str = "NotSupported";
    /// A key, Secret or ConfigMap can't be read.
    pub const REFERENCE_INVALID: &str = "ReferenceInvalid";
    /// The spec breaks a rule (an object from before the rule).
    pub const INVALID: &str = "Invalid";
    /// The policy asks nothing of this part.
    pub const NOT_REQUESTED: &str = "NotRequested";
    /// Nodes that should observe do not.
    pub const NOT_OBSERVING: &str = "NotObserving";
    /// Pods are not or only partly covered.
    pub const PARTIAL_COVERAGE: &str = "PartialCoverage";
    /// No replica of the webhook is ready.
    pub const WEBHOOK_UNAVAILABLE: &str = "WebhookUnavailable";
    /// `admission.enabled` is false in the installation's settings.
    pub const ADMISSION_DISABLED: &str = "AdmissionDisabled";
    /// The policy asks for a backend, and the installation's settings name none.
    pub const NOT_CONFIGURED: &str = "NotConfigured";
    /// Every running image that was looked at satisfies the policy, or is excepted.
    pub const SATISFIED: &str = "Satisfied";
    /// A running image does not satisfy the policy.
    pub const VIOLATED: &str = "Violated";
    /// Of some running images nothing can be said.
    pub const UNVERIFIABLE: &str = "Unverifiable";
    /// An object could not be applied.
    pub const APPLY_FAILED: &str = "ApplyFailed";
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// Sets a condition; `lastTransitionTime` moves only when the status does. Returns whether anything changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    generation: i64,
    now: &Time,
) -> bool {
    let status: &'static str = status.into();
    let message: String = message.chars().take(1024).collect();
    if let Some(old) = conditions.iter_mut().find(|c| c.type_ == type_) {
        let same = old.status == status && old.reason == reason && old.message == message;
        let changed = !same || old.observed_generation != Some(generation);
        if old.status != status {
            old.last_transition_time = now.clone();
        }
        status.clone_into(&mut old.status);
        reason.clone_into(&mut old.reason);
        old.message = message;
        old.observed_generation = Some(generation);
        return changed;
    }
    conditions.push(Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: now.clone(),
    });
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    true
}

/// Takes an abnormal-true condition away. Returns whether it was there.
pub fn clear(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != type_);
    conditions.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn transition_time_moves_with_the_status_only() {
        let mut conditions = Vec::new();
        assert!(set(&mut conditions, types::READY, ConditionStatus::False, reasons::PROGRESSING, "a", 1, &at(1)));
        assert!(set(&mut conditions, types::READY, ConditionStatus::False, reasons::PROGRESSING, "b", 1, &at(2)));
        assert_eq!(conditions[0].last_transition_time, at(1));
        assert!(!set(&mut conditions, types::READY, ConditionStatus::False, reasons::PROGRESSING, "b", 1, &at(3)));
        assert!(set(&mut conditions, types::READY, ConditionStatus::True, reasons::AVAILABLE, "b", 1, &at(4)));
        assert_eq!(conditions[0].last_transition_time, at(4));
    }
}
