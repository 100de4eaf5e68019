//! The rule set, compiled once, and the part of it that holds for a container.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use globset::GlobSet;
use zastava_crds::{
    policy::{DriftAction, KillClass, LabelSelector, Libraries, Mode},
    wire::{event::PolicyRef, sync::RuleSet},
};

use super::{
    allow::{Allow, globs, numbered},
    image,
    select::selects,
};
use crate::containers::Container;

/// One policy's rules, ready to be applied.
#[derive(Debug)]
pub struct Policy {
    /// Which.
    pub reference: PolicyRef,
    namespace_selector: Option<LabelSelector>,
    pod_selector: Option<LabelSelector>,
    images: Option<GlobSet>,
    /// Mode is Enforce.
    pub enforced: bool,
    /// Drift is judged.
    pub drift: Option<Drift>,
    /// Loaded objects are judged: what is no finding.
    pub libraries: Option<Allow>,
    /// Some processes are denied.
    pub processes: Option<Processes>,
}

/// A policy's word on drift.
#[derive(Debug)]
pub struct Drift {
    /// Classes to kill, empty where the action is Audit.
    pub kill: BTreeSet<KillClass>,
    /// What is no finding.
    pub allow: Allow,
}

/// A policy's word on processes.
#[derive(Debug)]
pub struct Processes {
    /// Denied paths that could be compiled, as written.
    pub patterns: Vec<String>,
    /// The same, compiled, in the same order.
    pub deny: GlobSet,
    /// Exceptions.
    pub allow: GlobSet,
}

/// All rules of the cluster.
#[derive(Debug)]
pub struct Rules {
    /// Of the set they were made from.
    pub hash: String,
    policies: Vec<Arc<Policy>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Rules {
    /// Compiles a set. A set without a hash is none: no rules are known yet.
    pub fn new(set: &RuleSet) -> Option<Self> {
        if set.hash.is_empty() {
            return None;
        }
        let policies = set.policies.iter().map(|rules| {
            let name = &rules.policy.name;
            let drift = (rules.drift.action != DriftAction::Off).then(|| Drift {
                kill: match rules.drift.action {
                    DriftAction::Kill => rules.drift.kill.iter().copied().collect(),
                    _ => BTreeSet::new(),
                },
                allow: Allow::new(&rules.drift.allow, name),
            });
            let processes = rules.processes.as_ref().filter(|processes| !processes.deny.is_empty());
            Arc::new(Policy {
                reference: rules.policy.clone(),
                namespace_selector: rules.namespace_selector.clone(),
                pod_selector: rules.pod_selector.clone(),
                images: (!rules.images.is_empty()).then(|| globs(&rules.images, name)),
                enforced: rules.mode == Mode::Enforce,
                drift,
                libraries: (rules.libraries == Libraries::Audit).then(|| Allow::new(&rules.drift.allow, name)),
                processes: processes.map(|processes| {
                    let (deny, patterns) = numbered(&processes.deny, name);
                    Processes { patterns, deny, allow: globs(&processes.allow, name) }
                }),
            })
        });
        Some(Self { hash: set.hash.clone(), policies: policies.collect(), namespaces: set.namespaces.clone() })
    }

    /// The policies that hold for a container. A namespace that the set does not name is exempt, or not known yet.
    pub fn of(&self, container: &Container) -> Vec<Arc<Policy>> {
        if container.is_sandbox {
            return Vec::new();
        }
        let Some(labels) = self.namespaces.get(&container.reference.namespace) else { return Vec::new() };
        let names = container.image_names();
        let chosen = self.policies.iter().filter(|policy| {
            (policy.drift.is_some() || policy.processes.is_some() || policy.libraries.is_some())
                && selects(policy.namespace_selector.as_ref(), labels)
                && selects(policy.pod_selector.as_ref(), &container.labels)
                && policy.images.as_ref().is_none_or(|globs| names.iter().any(|name| globs.is_match(name)))
        });
        chosen.cloned().collect()
    }

    /// Whether the set knows this namespace.
    pub fn knows(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }
}

impl Container {
    /// `host/repository` by which globs may know the image: what was asked for, else every name the runtime has.
    fn image_names(&self) -> Vec<String> {
        match self.reference.image.as_deref().and_then(image::canonical) {
            Some(name) => vec![name],
            None => self.image_aliases.iter().filter_map(|name| image::canonical(name)).collect(),
        }
    }
}
