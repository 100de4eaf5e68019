//! What the node can say of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use zastava_crds::wire::{
    event::LossReason,
    sync::{Accounting, Coverage, CoverageReason, UncoveredPod},
};

use super::{Observed, shared::Shared};
use crate::{
    containers::Container,
    probe::{
        ProbeError,
        load::Statistics,
        maps::{ContainerState, id_key},
        settle::Book,
    },
};

/// Pods told by name.
const MAX_UNCOVERED: usize = 100;

/// executed = stored + filtered + foreign + pending + dropped.
pub fn accounting(shared: &Shared, book: &Book, statistics: &Statistics) -> Result<Accounting, ProbeError> {
    // In this order what is on its way is never less than nothing.
    let sums = book.sums();
    let kernel = shared.maps.counters()?;
    let recursion = statistics.recursion_misses().unwrap_or_else(|error| {
        tracing::debug!(%error, "the program's statistics can't be read");
        0
    });
    let mut dropped: BTreeMap<String, u64> =
        sums.dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    for (reason, count) in
        [(LossReason::RingFull, kernel.lost_routine + kernel.lost_urgent), (LossReason::Recursion, recursion)]
    {
        if count > 0 {
            dropped.insert(<&str>::from(reason).to_owned(), count);
        }
    }
    Ok(Accounting {
        executed: kernel.executed + recursion,
        stored: sums.stored,
        combined: sums.combined,
        filtered: kernel.filtered + sums.filtered,
        foreign: kernel.foreign,
        pending: (kernel.emitted_routine + kernel.emitted_urgent).saturating_sub(sums.total()),
        dropped,
    })
}

/// Why execs of a container are not judged.
fn reason(container: &Container, state: Option<ContainerState>) -> Option<CoverageReason> {
    if container.is_sandboxed() {
        return Some(CoverageReason::Sandboxed);
    }
    match state {
        Some(state) if state.armed != 0 && state.overlay == 0 => Some(CoverageReason::NonOverlayRoot),
        Some(state) if state.armed != 0 => None,
        _ => Some(CoverageReason::Unarmed),
    }
}

/// Tells the kernel the roots of containers that have not executed since the probe was attached.
pub fn arm(shared: &Shared) -> Result<(), ProbeError> {
    for (container, _) in shared.register.running() {
        let Some(key) = id_key(&container.reference.container_id).filter(|_| container.pid != 0) else { continue };
        if shared.maps.container(&key)?.is_some_and(|state| state.armed != 0) {
            continue;
        }
        let Some(root) = shared.examiner.armable(&container) else { continue };
        let overlay = u32::from(root.overlay.is_some());
        shared.maps.arm(
            &key,
            ContainerState {
                root_device: root.device,
                mntns: root.mntns,
                armed: 1,
                overlay,
                ..ContainerState::default()
            },
        )?;
    }
    Ok(())
}

/// Pods by coverage, and whatever is missing on the whole node.
pub fn coverage(shared: &Shared, attached: bool, observed: &mut Observed) -> Result<(), ProbeError> {
    let mut reasons = BTreeSet::new();
    if !attached {
        reasons.insert(CoverageReason::ProbeDetached);
    }
    if !shared.runtime.load(Ordering::Relaxed) {
        reasons.insert(CoverageReason::RuntimeGone);
    }
    if shared.libraries_refused.load(Ordering::Relaxed) {
        reasons.insert(CoverageReason::LibrariesRefused);
    }
    if !shared.store.load(Ordering::Relaxed) {
        reasons.insert(CoverageReason::JournalStuck);
    }
    // Each pod: how many containers, and why some are not covered.
    let mut pods: BTreeMap<(String, String, String), (u32, Vec<CoverageReason>)> = BTreeMap::new();
    for (container, policies) in shared.register.running() {
        if policies.is_empty() || container.is_sandbox {
            continue;
        }
        let state = match id_key(&container.reference.container_id) {
            Some(key) => shared.maps.container(&key)?,
            None => None,
        };
        let missing = if attached { reason(&container, state) } else { Some(CoverageReason::ProbeDetached) };
        let reference = &container.reference;
        let key = (reference.namespace.clone(), reference.pod.clone(), reference.pod_uid.clone());
        let pod = pods.entry(key).or_default();
        pod.0 += 1;
        pod.1.extend(missing);
    }
    observed.coverage = Coverage::default();
    observed.uncovered.clear();
    for ((namespace, pod, _), (containers, missing)) in pods {
        let Some(reason) = missing.first().copied() else {
            observed.coverage.full += 1;
            continue;
        };
        if u32::try_from(missing.len()).is_ok_and(|missing| missing < containers) {
            observed.coverage.partial += 1;
        } else {
            observed.coverage.none += 1;
        }
        if observed.uncovered.len() < MAX_UNCOVERED {
            observed.uncovered.push(UncoveredPod { namespace, pod, reason });
        }
    }
    observed.reasons = reasons;
    Ok(())
}
