//! Rules as the kernel holds them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use zastava_crds::{policy::KillClass, wire::event::DriftClass};

use super::Policy;
use crate::probe::{
    Maps, ProbeError,
    maps::{IdKey, KernelRules, TopKey, rule_flags},
};

/// The maps that rules are written to.
pub trait Kernel: Send + Sync {
    /// Puts a container's rules in force.
    fn put(&self, id: &IdKey, rules: KernelRules) -> Result<(), ProbeError>;
    /// Takes them away, and what is known of the container.
    fn remove(&self, id: &IdKey) -> Result<(), ProbeError>;
    /// Containers with rules.
    fn ruled(&self) -> Result<Vec<(IdKey, KernelRules)>, ProbeError>;
    /// Adds a first component of an allowed path.
    fn put_top(&self, key: TopKey) -> Result<(), ProbeError>;
    /// Takes one away.
    fn drop_top(&self, key: &TopKey) -> Result<(), ProbeError>;
    /// Every one there is.
    fn tops(&self) -> Result<Vec<TopKey>, ProbeError>;
}

impl Kernel for Maps {
    fn put(&self, id: &IdKey, rules: KernelRules) -> Result<(), ProbeError> {
        self.put_rules(id, rules)
    }

    fn remove(&self, id: &IdKey) -> Result<(), ProbeError> {
        self.drop_rules(id)?;
        self.forget(id)
    }

    fn ruled(&self) -> Result<Vec<(IdKey, KernelRules)>, ProbeError> {
        Self::ruled(self)
    }

    fn put_top(&self, key: TopKey) -> Result<(), ProbeError> {
        Self::put_top(self, key)
    }

    fn drop_top(&self, key: &TopKey) -> Result<(), ProbeError> {
        Self::drop_top(self, key)
    }

    fn tops(&self) -> Result<Vec<TopKey>, ProbeError> {
        Self::tops(self)
    }
}

/// A class as the kernel numbers it.
const fn bit(class: DriftClass) -> u32 {
    1 << match class {
        DriftClass::New => 1,
        DriftClass::CopiedUp => 2,
        DriftClass::Foreign => 3,
        DriftClass::Unnamed => 4,
        DriftClass::Unknown => 5,
    }
}

/// What policies ask of the kernel: the rules but for their slot, and the first components that hold a kill back.
pub fn compile(policies: &[Arc<Policy>]) -> (KernelRules, BTreeSet<String>) {
    let mut rules = KernelRules::default();
    let mut tops = BTreeSet::new();
    for policy in policies {
        // A mapping may come up after its process is gone: the exec tells whose it was.
        if policy.processes.is_some() || policy.libraries.is_some() {
            rules.flags |= rule_flags::EVERY_EXEC;
        }
        let Some(drift) = &policy.drift else { continue };
        rules.flags |= rule_flags::DRIFT;
        if !policy.enforced {
            continue;
        }
        for class in &drift.kill {
            rules.kill |= match class {
                KillClass::New => bit(DriftClass::New),
                KillClass::Foreign => bit(DriftClass::Foreign),
                KillClass::Unnamed => bit(DriftClass::Unnamed),
                // Its hash decides, so it is killed late.
                KillClass::CopiedUp => 0,
            };
        }
        if !drift.kill.is_empty() {
            tops.extend(drift.allow.tops.iter().cloned());
            if drift.allow.anywhere {
                rules.flags |= rule_flags::GUARD_ALL;
            }
        }
    }
    if !tops.is_empty() {
        rules.flags |= rule_flags::GUARDED;
    }
    (rules, tops)
}

/// Slots of `allowed_tops`: one for each distinct set, made before a container names it and removed after the last.
#[derive(Debug, Default)]
pub struct Slots {
    by_tops: BTreeMap<BTreeSet<String>, u32>,
    last: u32,
}

impl Slots {
    /// Slots of a kernel that may hold an earlier agent's.
    pub fn new(kernel: &dyn Kernel) -> Result<Self, ProbeError> {
        let last = kernel.tops()?.iter().map(|key| key.slot).max().unwrap_or(0);
        Ok(Self { by_tops: BTreeMap::new(), last })
    }

    /// The slot of these components.
    pub fn slot(&mut self, kernel: &dyn Kernel, tops: BTreeSet<String>) -> Result<u32, ProbeError> {
        if tops.is_empty() {
            return Ok(0);
        }
        if let Some(slot) = self.by_tops.get(&tops) {
            return Ok(*slot);
        }
        let slot = self.last.wrapping_add(1).max(1);
        for top in &tops {
            kernel.put_top(TopKey::new(slot, top))?;
        }
        self.last = slot;
        self.by_tops.insert(tops, slot);
        Ok(slot)
    }

    /// Removes the slots that no container names.
    pub fn sweep(&mut self, kernel: &dyn Kernel, used: &BTreeSet<u32>) -> Result<(), ProbeError> {
        self.by_tops.retain(|_, slot| used.contains(slot));
        for key in kernel.tops()? {
            if !used.contains(&key.slot) {
                kernel.drop_top(&key)?;
            }
        }
        Ok(())
    }
}
