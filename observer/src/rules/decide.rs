//! What policies say of one exec.

use std::{borrow::Cow, sync::Arc};

use zastava_crds::{
    policy::KillClass,
    wire::event::{DriftClass, PolicyRef},
};

use super::{Policy, set::Processes};

/// Different globs that one event names.
const MAX_RULES: usize = 4;

/// What was executed, as far as rules care.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Where it came from.
    pub class: DriftClass,
    /// Path in the container's root.
    pub path: &'a str,
    /// The path proves something: the process was in the container's own mount namespace, and the file has a name.
    pub path_holds: bool,
    /// Its content is the image's after all (a file that was only copied up).
    pub unchanged: bool,
    /// Nothing is known of its content.
    pub unread: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// By whom it is reported; empty: by nobody.
    pub policies: Vec<PolicyRef>,
    /// It must not live.
    pub kill: bool,
    /// It must not live, if some mode were Enforce.
    pub would_kill: bool,
}

/// `None` for a class that is never killed.
pub const fn kill_class(class: DriftClass) -> Option<KillClass> {
    match class {
        DriftClass::New => Some(KillClass::New),
        DriftClass::CopiedUp => Some(KillClass::CopiedUp),
        DriftClass::Foreign => Some(KillClass::Foreign),
        DriftClass::Unnamed => Some(KillClass::Unnamed),
        DriftClass::Unknown => None,
    }
}

impl Decision {
    /// On drift. Each policy allows for itself alone, so the strictest wins.
    pub fn on_drift(policies: &[Arc<Policy>], subject: Subject<'_>) -> Self {
        let mut decision = Self::default();
        let Some(class) = kill_class(subject.class) else { return decision };
        for policy in policies {
            let Some(drift) = &policy.drift else { continue };
            if subject.path_holds && drift.allow.allows(subject.path) {
                continue;
            }
            decision.policies.push(policy.reference.clone());
            // A copied-up file is killed for content that was read and differs, never on suspicion.
            let proven = class != KillClass::CopiedUp || !subject.unchanged && !subject.unread;
            if proven && drift.kill.contains(&class) {
                decision.kill |= policy.enforced;
                decision.would_kill |= !policy.enforced;
            }
        }
        decision.would_kill &= !decision.kill;
        decision.policies.sort();
        decision
    }

    /// On a loaded object that is not the image's: by whom it is reported. What has no path has a name, and who allows
    /// that name allows it.
    pub fn on_library(policies: &[Arc<Policy>], subject: Subject<'_>) -> Vec<PolicyRef> {
        let told = |policy: &&Arc<Policy>| {
            let named = subject.path_holds || subject.class == DriftClass::Unnamed;
            policy.libraries.as_ref().is_some_and(|allow| !(named && allow.allows(subject.path)))
        };
        let mut by: Vec<PolicyRef> = policies.iter().filter(told).map(|policy| policy.reference.clone()).collect();
        by.sort();
        by
    }

    /// On a process by all names it has: the globs that deny it, and by whom. An allowed name is allowed for itself: a
    /// link can't lend its name to the file that it leads to.
    pub fn on_process(policies: &[Arc<Policy>], names: &[&str]) -> Option<(String, Vec<PolicyRef>)> {
        let mut by: Vec<(&PolicyRef, &str)> = policies
            .iter()
            .filter_map(|policy| Some((&policy.reference, policy.processes.as_ref()?.denies(names)?)))
            .collect();
        by.sort();
        let mut rules: Vec<&str> = Vec::new();
        for (_, rule) in &by {
            if rules.len() < MAX_RULES && !rules.contains(rule) {
                rules.push(rule);
            }
        }
        (!rules.is_empty()).then(|| (rules.join(" and "), by.into_iter().map(|(policy, _)| policy.clone()).collect()))
    }
}

impl Processes {
    /// The glob that denies one of these names.
    fn denies(&self, names: &[&str]) -> Option<&str> {
        names.iter().filter(|name| !self.allow.is_match(name)).find_map(|name| {
            let first = *self.deny.matches(name).first()?;
            self.patterns.get(first).map(String::as_str)
        })
    }
}

/// A name as it leads through folders: without `.`, `..` and empty parts, so that no spelling escapes a glob. A relative
/// name has unknown folders before it and stays as it is.
pub fn spelled(name: &str) -> Cow<'_, str> {
    if !name.starts_with('/') || !name.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Cow::Borrowed(name);
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Cow::Owned(format!("/{}", parts.join("/")))
}
