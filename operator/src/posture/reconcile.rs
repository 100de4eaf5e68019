//! Findings as they should be, made so: what stands is opened, what is gone is resolved, the rest is not written.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

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
    Caps, FindingKey,
    cause::{self, Gone},
    store::{FindingStore, StoreError},
};

/// Findings that are written at a time.
const AT_ONCE: usize = 8;
/// For this long a workload may run no pod before what was found about it is resolved: pods are replaced all the time.
const ABSENT: Duration = Duration::from_mins(2);
/// For this long a finding that nothing takes in is not offered again: neither room nor a namespace comes that fast.
const REFUSED: Duration = Duration::from_mins(1);

/// What one look leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Since when workloads that a finding is about run nothing, by the finding's namespace and name.
    absent: HashMap<Named, Timestamp>,
    /// Findings that were not taken in, and when.
    refused: BTreeMap<FindingKey, Timestamp>,
}

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
    memory: &mut Memory,
    metrics: &PostureMetrics,
    now: Timestamp,
) -> Reconciled {
    let (gone, next) = gone(&store.all(), survey, &mut memory.absent, now);
    memory.refused.retain(|key, at| later(*at, REFUSED) > now && survey.wanted.contains_key(key));
    let mut reconciled = Reconciled { failed: false, next };
    let mut writes: Vec<BoxFuture<'_, _>> = Vec::with_capacity(survey.wanted.len() + gone.len());
    for (key, cause) in survey.wanted.iter().filter(|(key, _)| !memory.refused.contains_key(key)) {
        writes.push(cause::open(store, key, cause, caps, now).map(move |result| (Some(key), result)).boxed());
    }
    for ((namespace, name), gone) in &gone {
        writes.push(cause::resolve(store, namespace, name, gone, now).map(|result| (None, result)).boxed());
    }
    let mut all = stream::iter(writes).buffer_unordered(AT_ONCE);
    while let Some((opened, result)) = all.next().await {
        if let (Some(key), Ok(cause::Done::Capped | cause::Done::Missing) | Err(StoreError::Invalid(_))) =
            (opened, &result)
        {
            memory.refused.insert(key.clone(), now);
        }
        match result {
            Ok(cause::Done::Kept) => {}
            Ok(done) => metrics.wrote(done.into()),
            Err(error @ StoreError::Invalid(_)) => {
                metrics.wrote(error.category());
                tracing::warn!(%error, category = error.category(), "a posture finding can't be written");
            }
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
    absences: &mut HashMap<Named, Timestamp>,
    now: Timestamp,
) -> (Vec<(Named, Gone)>, Option<Timestamp>) {
    let wanted: std::collections::HashSet<Named> =
        survey.wanted.keys().map(|key| (key.namespace.clone(), key.name())).collect();
    let mut absent = HashMap::new();
    let (mut gone, mut next) = (Vec::new(), None::<Timestamp>);
    for finding in findings {
        if finding.spec.type_ != FindingType::Posture {
            continue;
        }
        let is_open = finding.status.as_ref().is_none_or(|status| status.resolved.is_none());
        let named = (finding.namespace().unwrap_or_default(), finding.name_any());
        if !is_open || wanted.contains(&named) {
            continue;
        }
        let Some(why) = why(finding, survey) else { continue };
        if why.reason == ResolutionReason::NotRunning {
            let since = absences.get(&named).copied().unwrap_or(now);
            absent.insert(named.clone(), since);
            let until = later(since, ABSENT);
            if until > now {
                next = next.into_iter().chain([until]).min();
                continue;
            }
        }
        gone.push((named, why));
    }
    *absences = absent;
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
