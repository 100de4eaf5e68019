//! The end at runtime.

use std::collections::BTreeMap;

use zastava_crds::{
    condition::{ConditionStatus, reasons, types},
    policy::ObserverStatus,
    wire::sync::CoverageReason,
};

use super::{Part, Scene};

/// Nodes that a message names at most.
const NAMED: usize = 3;

pub(super) fn part(scene: &Scene<'_>) -> Part {
    match &scene.report.deployed {
        Some(deployed) if deployed.observer => {}
        _ => return Part::starting("the observer is not rolled out"),
    }
    let survey = scene.survey;
    // A new leader waits for each observer to speak; what the old one found holds until then.
    if survey.is_unheard() {
        return remembered(scene).unwrap_or_else(|| Part::starting("waiting for the observers to report"));
    }
    let missing: Vec<_> = survey.missing().collect();
    let words = words(missing.iter().map(|(node, reason, _)| (*node, *reason)));
    let (observing, _) = survey.observing();
    let desired = survey.nodes.len();
    let blocking = missing.iter().any(|(_, _, usable)| *usable);
    let late = missing.iter().any(|(node, _, usable)| !usable || (scene.overdue)(node));
    let mut part = if blocking {
        Part::down(reasons::NOT_OBSERVING, words.clone())
    } else if desired == 0 {
        Part::up("no node runs a matched pod")
    } else {
        Part::up(format!("{observing} of {desired} nodes with matched pods observe"))
    };
    if blocking && !late {
        // A message without counts: one write, not one a node.
        part.reason = reasons::PROGRESSING;
        part.progressing = Some(words.clone());
    }
    let gaps: Vec<_> = survey.gaps().into_iter().map(|reason| reason.to_string()).collect();
    if late {
        part.degraded = Some((reasons::NOT_OBSERVING, words));
    } else if !gaps.is_empty() {
        let message = format!("some execs are not observed: {}", gaps.join(", "));
        part.degraded = Some((reasons::PARTIAL_COVERAGE, message));
    }
    part
}

/// Absent until the observers have been heard: the stored counters stay.
pub(super) fn counters(scene: &Scene<'_>) -> Option<ObserverStatus> {
    let stored = || scene.policy.status.as_ref().and_then(|status| status.observer.clone());
    let survey = scene.survey;
    if survey.is_unheard() {
        return stored();
    }
    let (observing, killing) = survey.observing();
    let desired = u32::try_from(survey.nodes.len()).unwrap_or(u32::MAX);
    let summary = format!("{observing}/{desired}");
    Some(ObserverStatus { summary, desired, observing, killing, coverage: survey.coverage() })
}

fn remembered(scene: &Scene<'_>) -> Option<Part> {
    let status = scene.policy.status.as_ref()?;
    if Some(status.observed_generation) != scene.policy.metadata.generation {
        return None;
    }
    let find = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
    let available = find(types::OBSERVER_AVAILABLE)?;
    let reason = [reasons::AVAILABLE, reasons::NOT_OBSERVING].into_iter().find(|reason| *reason == available.reason)?;
    let degraded = find(types::DEGRADED).and_then(|condition| {
        let known = [reasons::NOT_OBSERVING, reasons::PARTIAL_COVERAGE];
        Some((known.into_iter().find(|reason| *reason == condition.reason)?, condition.message.clone()))
    });
    let up = available.status == "True";
    Some(Part {
        status: if up { ConditionStatus::True } else { ConditionStatus::False },
        reason,
        message: available.message.clone(),
        progressing: None,
        degraded,
    })
}

fn words<'a>(missing: impl Iterator<Item = (&'a str, CoverageReason)>) -> String {
    let mut by_reason: BTreeMap<CoverageReason, Vec<&str>> = BTreeMap::new();
    for (node, reason) in missing {
        by_reason.entry(reason).or_default().push(node);
    }
    let told = by_reason.into_iter().map(|(reason, nodes)| {
        let named = nodes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        match nodes.len().saturating_sub(NAMED) {
            0 => format!("{reason} on {named}"),
            more => format!("{reason} on {named} and {more} more"),
        }
    });
    told.collect::<Vec<_>>().join("; ")
}
