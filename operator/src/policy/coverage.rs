//! What the observers make of one policy: which of the nodes that run its pods observe them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use zastava_crds::{
    policy::CoverageStatus,
    wire::sync::{CoverageReason, NodeStatus},
};

use crate::{
    nodes::{ClusterNode, NodeView},
    pods::Pod,
};

/// An observer has this long from the moment that its node is ready, and a part that went missing before it counts as
/// degraded.
pub const GRACE: Duration = Duration::from_mins(1);

/// What is known of nodes and observers.
pub struct Fleet<'a> {
    /// The cluster's nodes.
    pub nodes: &'a BTreeMap<String, ClusterNode>,
    /// The last word of each observer.
    pub views: &'a BTreeMap<String, NodeView>,
    /// An observer that was not heard is not there.
    pub settled: bool,
    /// When the DaemonSet was made.
    pub deployed: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// How one node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It observes, by the policy as it is.
    Observing {
        /// Kill is armed.
        kills: bool,
        /// What the node says is missing on it.
        reasons: Vec<CoverageReason>,
    },
    /// The node has just come, its observer may still start.
    Starting,
    /// Its observer was not heard by this leader yet.
    Unheard,
    /// It does not observe.
    Missing {
        /// Why.
        reason: CoverageReason,
        /// The node takes pods; else it is broken or on its way out.
        usable: bool,
    },
}

/// The nodes that run a policy's pods, and the pods by coverage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By name.
    pub nodes: BTreeMap<String, Standing>,
    /// Pods that are fully covered.
    pub full: u32,
    /// Pods of which some containers are.
    pub partial: u32,
    /// Pods that are not.
    pub none: u32,
    /// Pods by what is missing.
    pub reasons: BTreeMap<CoverageReason, u32>,
}

impl Survey {
    /// Looks at every node that runs one of `pods`. `kills` says that the policy does, `holds` whether a rule set of this
    /// hash holds the policy as it is.
    pub fn of(pods: &[Arc<Pod>], fleet: &Fleet<'_>, kills: bool, holds: impl Fn(&str) -> bool) -> Self {
        let mut by_node: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in pods {
            if let Some(node) = pod.node.as_deref().filter(|node| fleet.nodes.contains_key(*node)) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        let mut survey = Self::default();
        for (name, pods) in by_node {
            let (Some(node), view) = (fleet.nodes.get(name), fleet.views.get(name)) else { continue };
            let standing = fleet.standing(node, view, kills, &holds);
            match (&standing, view) {
                (Standing::Observing { .. }, Some(view)) => survey.add(&pods, &view.status),
                (Standing::Missing { reason, .. }, _) => survey.miss(*reason, pods.len()),
                _ => survey.miss(CoverageReason::NotObserved, pods.len()),
            }
            survey.nodes.insert(name.to_owned(), standing);
        }
        survey
    }

    fn miss(&mut self, reason: CoverageReason, pods: usize) {
        let pods = u32::try_from(pods).unwrap_or(u32::MAX);
        self.none += pods;
        *self.reasons.entry(reason).or_default() += pods;
    }

    fn add(&mut self, pods: &[&Pod], status: &NodeStatus) {
        for pod in pods {
            let said = status.uncovered.iter().find(|said| said.namespace == pod.namespace && said.pod == pod.name);
            let Some(said) = said else {
                self.full += 1;
                continue;
            };
            *self.reasons.entry(said.reason).or_default() += 1;
            // The node counts the two apart, and names the pods without saying which is which.
            let none = match (status.coverage.partial, status.coverage.none) {
                (0, _) => true,
                (_, 0) => false,
                _ => said.reason != CoverageReason::Unarmed,
            };
            if none { self.none += 1 } else { self.partial += 1 }
        }
    }

    /// Nodes that do not observe, with the reason of each.
    pub fn missing(&self) -> impl Iterator<Item = (&str, CoverageReason, bool)> {
        self.nodes.iter().filter_map(|(name, standing)| match standing {
            Standing::Missing { reason, usable } => Some((name.as_str(), *reason, *usable)),
            _ => None,
        })
    }

    /// How many nodes observe, and on how many of them Kill is armed.
    pub fn observing(&self) -> (u32, u32) {
        self.nodes.values().fold((0, 0), |(observing, killing), standing| match standing {
            Standing::Observing { kills, .. } => (observing + 1, killing + u32::from(*kills)),
            _ => (observing, killing),
        })
    }

    /// Some node was not heard by this leader yet.
    pub fn is_unheard(&self) -> bool {
        self.nodes.values().any(|standing| *standing == Standing::Unheard)
    }

    /// What is missing although the nodes observe. A container that has not executed since its rules came is none of it.
    pub fn gaps(&self) -> BTreeSet<CoverageReason> {
        let said = self.nodes.values().flat_map(|standing| match standing {
            Standing::Observing { reasons, .. } => reasons.as_slice(),
            _ => &[],
        });
        let missing: BTreeSet<_> = self.missing().map(|(_, reason, _)| reason).collect();
        let of_pods =
            self.reasons.keys().filter(|reason| !missing.contains(reason) && **reason != CoverageReason::NotObserved);
        said.chain(of_pods).filter(|reason| **reason != CoverageReason::Unarmed).copied().collect()
    }

    /// For the policy's status.
    pub fn coverage(&self) -> CoverageStatus {
        let reasons = self.reasons.iter().take(16).map(|(reason, pods)| format!("{reason}: {pods}")).collect();
        CoverageStatus { full: self.full, partial: self.partial, none: self.none, reasons }
    }
}

impl Fleet<'_> {
    fn standing(
        &self,
        node: &ClusterNode,
        view: Option<&NodeView>,
        kills: bool,
        holds: impl Fn(&str) -> bool,
    ) -> Standing {
        let missing = |reason| {
            // A node that was there before the DaemonSet has no grace: nothing observes it yet.
            let fresh = node.since.is_some_and(|since| {
                self.deployed.is_some_and(|deployed| deployed < since)
                    && self.now.duration_since(since).unsigned_abs() < GRACE
            });
            if fresh { Standing::Starting } else { Standing::Missing { reason, usable: node.usable } }
        };
        match view {
            None if !self.settled => Standing::Unheard,
            None => missing(CoverageReason::NotObserved),
            Some(view) if view.silent => missing(CoverageReason::NotObserved),
            Some(view) if !view.status.observing => {
                missing(view.status.reasons.first().copied().unwrap_or(CoverageReason::ProbeDetached))
            }
            Some(view) if !holds(&view.status.rules_hash) => missing(CoverageReason::NotObserved),
            Some(view) if kills && !view.status.may_kill => missing(CoverageReason::MayNotKill),
            Some(view) => Standing::Observing { kills: view.status.kill_armed, reasons: view.status.reasons.clone() },
        }
    }
}

#[cfg(test)]
mod tests;
