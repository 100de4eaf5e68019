//! Findings as they should be, made so: what stands is opened, what is gone is resolved, the rest is not written.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use jiff::Timestamp;
use kube::ResourceExt as _;
use zastava_crds::finding::{FindingType, ResolutionReason, RuntimeFinding};

use super::{
    answers::later,
    metrics::PostureMetrics,
    survey::{Place, State, Survey},
};
use crate::finding::{
    Caps,
    cause::{self, Gone},
    store::{FindingStore, StoreError},
};

/// Findings that are written at a time.
const AT_ONCE: usize = 8;
/// For this long a workload may run no pod before what was found about it is resolved: pods are replaced all the time.
const ABSENT: Duration = Duration::from_mins(2);

/// Since when workloads that a finding is about run nothing, by the finding's namespace and name.
#[derive(Debug, Default)]
pub(super) struct Absences(HashMap<(String, String), Timestamp>);

/// What came of a look.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    /// Something could not be written: the next look comes soon.
    pub(super) failed: bool,
    /// When an absence becomes long enough.
    pub(super) next: Option<Timestamp>,
}

/// Makes findings what the survey says.
pub(super) async fn reconcile<S: FindingStore>(
    store: &S,
    caps: &Caps,
    survey: &Survey,
    absences: &mut Absences,
    metrics: &PostureMetrics,
    now: Timestamp,
) -> Reconciled {
    let (gone, next) = gone(&store.all(), survey, absences, now);
    let mut reconciled = Reconciled { failed: false, next };
    let mut writes: Vec<BoxFuture<'_, _>> = Vec::with_capacity(survey.wanted.len() + gone.len());
    for (key, cause) in &survey.wanted {
        writes.push(cause::open(store, key, cause, caps, now).boxed());
    }
    for ((namespace, name), gone) in &gone {
        writes.push(cause::resolve(store, namespace, name, gone, now).boxed());
    }
    let mut all = stream::iter(writes).buffer_unordered(AT_ONCE);
    while let Some(result) = all.next().await {
        match result {
            Ok(cause::Done::Kept) => {}
            Ok(done) => metrics.wrote(done.into()),
            Err(error) => {
                metrics.wrote(error.category());
                reconciled.failed = true;
                if error == StoreError::NotLeading {
                    break;
                }
                tracing::warn!(%error, category = error.category(), "a posture finding was not written, trying again");
            }
        }
    }
    reconciled
}

type Named = (String, String);

/// The findings that no longer stand, and when to look again for those that may not.
fn gone(
    findings: &[Arc<RuntimeFinding>],
    survey: &Survey,
    absences: &mut Absences,
    now: Timestamp,
) -> (Vec<(Named, Gone)>, Option<Timestamp>) {
    let wanted: std::collections::HashSet<Named> =
        survey.wanted.keys().map(|key| (key.namespace.clone(), key.name())).collect();
    let mut absent = HashMap::new();
    let (mut gone, mut next) = (Vec::new(), None::<Timestamp>);
    for finding in findings {
        let is_open = finding.status.as_ref().is_none_or(|status| status.resolved.is_none());
        let named = (finding.namespace().unwrap_or_default(), finding.name_any());
        if finding.spec.type_ != FindingType::Posture || !is_open || wanted.contains(&named) {
            continue;
        }
        let Some(why) = why(finding, survey) else { continue };
        if why.reason == ResolutionReason::NotRunning {
            let since = absences.0.get(&named).copied().unwrap_or(now);
            absent.insert(named.clone(), since);
            let until = later(since, ABSENT);
            if until > now {
                next = next.into_iter().chain([until]).min();
                continue;
            }
        }
        gone.push((named, why));
    }
    absences.0 = absent;
    (gone, next)
}

/// Why a finding does not stand; `None`: that can't be said yet.
fn why(finding: &RuntimeFinding, survey: &Survey) -> Option<Gone> {
    let place = Place {
        namespace: finding.namespace().unwrap_or_default(),
        workload: finding.spec.workload.clone(),
        container: finding.spec.container.clone(),
    };
    let names = finding.status.as_ref().map(|status| status.policies.as_slice()).unwrap_or_default();
    let states =
        || names.iter().filter_map(|name| survey.states.get(&(place.clone(), name.clone())).map(|state| (name, state)));
    if states().any(|(_, state)| *state == State::Open) {
        return None;
    }
    let told = states().next().map(|(name, state)| match state {
        State::Excepted(exception) => {
            (ResolutionReason::Excepted, format!("exception {exception} of policy {name} covers it"))
        }
        State::Violated(other) => {
            (ResolutionReason::Satisfied, format!("policy {name} finds something else now: {other}"))
        }
        State::Satisfied | State::Open => (ResolutionReason::Satisfied, format!("the image satisfies policy {name}")),
    });
    let (reason, message) = told.unwrap_or_else(|| {
        // Without a policy that asks, nobody has looked for what runs.
        if survey.outlooks.is_empty() || survey.places.contains(&place) {
            let message =
                "its policy is gone or out of force, does not speak for it, or asks for no posture".to_owned();
            (ResolutionReason::NotAsked, message)
        } else {
            (ResolutionReason::NotRunning, "no pod of the workload runs the image any more".to_owned())
        }
    });
    Some(Gone { reason, message })
}
