//! What runs.

use zastava_crds::condition::{self, ConditionStatus, reasons, types};

use super::{Scene, Writing};

impl Writing {
    /// Whether all that runs satisfies the policy. While there are no answers yet, what was said last stays: a new leader
    /// begins without any. A doubt unsays a pass at once, but no violation while other answers are awaited.
    pub(super) fn posture(&mut self, scene: &Scene<'_>) {
        if scene.policy.spec.runtime.as_ref().is_none_or(|runtime| runtime.posture.is_none()) {
            condition::clear(&mut self.conditions, types::POSTURE_SATISFIED);
            return;
        }
        let outlook = scene.posture.filter(|outlook| outlook.generation == self.generation);
        let said = outlook.map(|outlook| match (outlook.violated, outlook.unknown, outlook.pending) {
            (1.., _, _) => (ConditionStatus::False, reasons::VIOLATED, outlook.describe()),
            (0, 1.., _) => (ConditionStatus::Unknown, reasons::UNVERIFIABLE, outlook.describe()),
            (0, 0, 1..) => (ConditionStatus::Unknown, reasons::PROGRESSING, outlook.describe()),
            (0, 0, 0) => (ConditionStatus::True, reasons::SATISFIED, outlook.describe()),
        });
        let is_said = |reason: Option<&str>| {
            self.conditions.iter().any(|c| {
                c.type_ == types::POSTURE_SATISFIED
                    && c.observed_generation == Some(self.generation)
                    && reason.is_none_or(|reason| c.reason == reason)
            })
        };
        let is_awaited = outlook.is_some_and(|outlook| outlook.pending > 0);
        match said {
            None | Some((_, reasons::PROGRESSING, _)) if is_said(None) => {}
            Some((_, reasons::UNVERIFIABLE, _)) if is_awaited && is_said(Some(reasons::VIOLATED)) => {}
            None => {
                let message = "what runs was not looked at yet";
                self.set(types::POSTURE_SATISFIED, ConditionStatus::Unknown, reasons::PROGRESSING, message);
            }
            Some((status, reason, message)) => self.set(types::POSTURE_SATISFIED, status, reason, &message),
        }
    }
}
