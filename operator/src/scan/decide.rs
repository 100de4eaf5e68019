//! What is to be done about scans: a pure function of the findings.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use zastava_crds::finding::{RuntimeFinding, ScanPhase, ScanStatus, ScanVerdict};

use super::{
    delta::{Delta, Place},
    terms::Terms,
};

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// One scan, for all findings of one delta.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) delta: Delta,
    /// A node it ran on: under an index, other platforms run other content.
    pub(super) node: Option<String>,
    pub(super) members: Vec<Place>,
    /// An answer of the same delta that is younger than the cooldown.
    pub(super) known: Option<ScanStatus>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decision {
    /// Scans to make now, the least tried first.
    pub(super) jobs: Vec<Job>,
    /// When to look again, though nothing changes.
    pub(super) next: Option<Timestamp>,
}

/// What this process remembers beside the findings: it may be lost.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Deltas that are being scanned.
    pub(super) running: HashSet<Delta>,
    /// When a finding may be tried again, after a try by this process.
    pub(super) not_before: HashMap<Place, Timestamp>,
}

/// A scan on its way to a job.
struct Asked {
    attempts: u32,
    cooldown: Duration,
    node: Option<String>,
    members: Vec<Place>,
}

/// Where a finding's scan stands.
enum Due {
    /// It needs none, or has its answer.
    Never,
    At(Timestamp),
}

/// Decides about all findings.
pub(super) fn decide(findings: &[Arc<RuntimeFinding>], terms: &Terms, memory: &Memory, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let mut jobs: HashMap<Delta, Asked> = HashMap::new();
    let mut answers: HashMap<Delta, &ScanStatus> = HashMap::new();
    for finding in findings {
        let Some(status) = finding.status.as_ref() else { continue };
        let (Some(delta), Some(cooldown)) = (Delta::of(finding), terms.cooldown(&status.policies)) else { continue };
        if let Some(scan) = status.scan.as_ref().filter(|scan| answers_for(scan, &delta)) {
            let newest = answers.entry(delta.clone()).or_insert(scan);
            if scan.finished_at > newest.finished_at {
                *newest = scan;
            }
        }
        if memory.running.contains(&delta) {
            continue;
        }
        let place = Place::of(finding);
        match due(finding, status.scan.as_ref(), &delta, cooldown, now) {
            Due::Never => {}
            Due::At(at) => {
                let at = memory.not_before.get(&place).map_or(at, |earliest| at.max(*earliest));
                if at > now {
                    decision.next = Some(decision.next.map_or(at, |next| next.min(at)));
                    continue;
                }
                let attempts = status.scan.as_ref().map_or(0, |scan| scan.attempts);
                let node = status.nodes.first().cloned();
                let asked = jobs.entry(delta).or_insert(Asked { attempts, cooldown, node, members: Vec::new() });
                asked.attempts = asked.attempts.min(attempts);
                asked.members.push(place);
            }
        }
    }
    let mut jobs: Vec<_> = jobs.into_iter().collect();
    jobs.sort_by(|(a, tried_a), (b, tried_b)| (tried_a.attempts, a).cmp(&(tried_b.attempts, b)));
    decision.jobs = jobs
        .into_iter()
        .map(|(delta, Asked { cooldown, node, members, .. })| {
            let known = answers.get(&delta).filter(|scan| is_younger(scan, cooldown, now)).map(|scan| (*scan).clone());
            Job { delta, node, members, known }
        })
        .collect();
    decision
}

fn due(finding: &RuntimeFinding, scan: Option<&ScanStatus>, delta: &Delta, cooldown: Duration, now: Timestamp) -> Due {
    let Some(scan) = scan else { return Due::At(now) };
    // Other content asks anew, at once: a verdict on what ran before must not stand beside what runs now.
    if scan.sha256 != delta.sha256 {
        return Due::At(now);
    }
    match scan.phase {
        ScanPhase::Pending => Due::At(later(scan.requested_at.0, waited(scan.attempts))),
        // An SBOM may have been attached since, or a registry be back: what is seen again is asked about again.
        ScanPhase::Done if scan.verdict != Some(ScanVerdict::Unknown) => Due::Never,
        ScanPhase::Done | ScanPhase::Failed => {
            let Some(finished) = &scan.finished_at else { return Due::At(now) };
            let at = later(finished.0, cooldown);
            let last_seen = finding.status.as_ref().and_then(|status| status.last_seen.as_ref());
            if last_seen.is_some_and(|seen| seen.0 >= at) { Due::At(at) } else { Due::Never }
        }
    }
}

/// Whether a scan holds an answer about this delta.
fn answers_for(scan: &ScanStatus, delta: &Delta) -> bool {
    scan.phase == ScanPhase::Done && scan.sha256 == delta.sha256 && scan.finished_at.is_some()
}

fn is_younger(scan: &ScanStatus, cooldown: Duration, now: Timestamp) -> bool {
    scan.finished_at.as_ref().is_some_and(|finished| later(finished.0, cooldown) > now)
}

/// Pause before the next try, after so many.
pub(super) fn pause(attempts: u32) -> Duration {
    match attempts {
        0 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(8)).min(LONGEST_PAUSE),
    }
}

/// Time since the scan was asked for at which the next try is due: the schedule is kept in the finding by its attempts.
fn waited(attempts: u32) -> Duration {
    (0..=attempts).map(pause).sum()
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
