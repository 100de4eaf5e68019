//! Kubernetes Events about a policy: one for each change of Ready, Stalled and Degraded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use zastava_crds::{
    condition::{reasons, types},
    policy::ZastavaPolicyStatus,
};

/// Characters of a note at most, as the API server has it.
const MAX_NOTE: usize = 1024;

/// What is to be told of the step from `old` to `new`.
pub fn events(old: Option<&ZastavaPolicyStatus>, new: &ZastavaPolicyStatus) -> Vec<Event> {
    let find = |status: Option<&ZastavaPolicyStatus>, type_: &str| -> Option<Condition> {
        status?.conditions.iter().find(|condition| condition.type_ == type_).cloned()
    };
    let mut events = Vec::new();
    for type_ in [types::STALLED, types::DEGRADED] {
        match (find(old, type_), find(Some(new), type_)) {
            (None, Some(now)) => events.push(event(EventType::Warning, type_, &now.reason, &now.message)),
            (Some(before), Some(now)) if before.reason != now.reason => {
                events.push(event(EventType::Warning, type_, &now.reason, &now.message));
            }
            (Some(_), None) if type_ == types::DEGRADED => {
                events.push(event(EventType::Normal, type_, RECOVERED, "nothing is missing any more"));
            }
            _ => {}
        }
    }
    let told = find(Some(new), types::STALLED).is_some();
    if let Some(now) = find(Some(new), types::READY).filter(|_| !told) {
        let before = find(old, types::READY);
        if before.is_none_or(|before| (&before.status, &before.reason) != (&now.status, &now.reason)) {
            let expected =
                [reasons::AVAILABLE, reasons::PROGRESSING, reasons::SUSPENDED].contains(&now.reason.as_str());
            let type_ = if expected { EventType::Normal } else { EventType::Warning };
            events.push(event(type_, types::READY, &now.reason, &now.message));
        }
    }
    events
}

/// Reason of the event that ends a Degraded.
const RECOVERED: &str = "Recovered";

fn event(type_: EventType, action: &str, reason: &str, note: &str) -> Event {
    let note = Some(note.chars().take(MAX_NOTE).collect());
    Event { type_, reason: reason.to_owned(), note, action: action.to_owned(), secondary: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> ZastavaPolicyStatus {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(type_, status, reason)| {
                json!({"type": type_, "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        serde_json::from_value(json!({"conditions": conditions})).unwrap()
    }

    fn told(old: Option<&ZastavaPolicyStatus>, new: &ZastavaPolicyStatus) -> Vec<String> {
        events(old, new).iter().map(|e| format!("{:?} {} {}", e.type_, e.action, e.reason)).collect()
    }

    #[test]
    fn each_step_is_told_once() {
        let progressing = status(&[("Ready", "False", "Progressing")]);
        let ready = status(&[("Ready", "True", "Available")]);
        let degraded = status(&[("Ready", "True", "Available"), ("Degraded", "True", "NotObserving")]);
        let stalled = status(&[("Ready", "False", "NotSupported"), ("Stalled", "True", "NotSupported")]);
        assert_eq!(told(None, &progressing), ["Normal Ready Progressing"]);
        assert_eq!(told(Some(&progressing), &ready), ["Normal Ready Available"]);
        assert!(told(Some(&ready), &ready).is_empty());
        assert_eq!(told(Some(&ready), &degraded), ["Warning Degraded NotObserving"]);
        assert_eq!(told(Some(&degraded), &ready), ["Normal Degraded Recovered"]);
        assert_eq!(told(Some(&ready), &stalled), ["Warning Stalled NotSupported"]);
        assert_eq!(told(Some(&stalled), &ready), ["Normal Ready Available"]);
    }
}
