//! What policies say about scans.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::ResourceExt as _;
use zastava_crds::policy::{ScanSpec, ScanTrigger, ZastavaPolicy, supported::unsupported_fields};

use crate::finding::duration;

/// For a cooldown that can't be read, which the schema excludes.
const FALLBACK: Duration = Duration::from_mins(10);

/// Policies in force whose drift asks for a scan, with their cooldown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms(BTreeMap<String, Duration>);

impl Terms {
    /// From the policies as they are now.
    pub(super) fn of(policies: &[Arc<ZastavaPolicy>]) -> Self {
        let asking = policies.iter().filter(|policy| is_in_force(policy)).filter_map(|policy| {
            let scan = policy.spec.scan.clone().unwrap_or_default();
            let asks = scan.on.contains(&ScanTrigger::Drift);
            asks.then(|| (policy.name_any(), cooldown(&scan)))
        });
        Self(asking.collect())
    }

    /// The cooldown of a finding of these policies, the longest of theirs; `None`: none of them asks for a scan.
    pub(super) fn cooldown(&self, policies: &[String]) -> Option<Duration> {
        policies.iter().filter_map(|policy| self.0.get(policy)).max().copied()
    }
}

/// Whether a policy is neither suspended, nor going, nor more than this version can honour.
pub(super) fn is_in_force(policy: &ZastavaPolicy) -> bool {
    !policy.spec.suspend && policy.metadata.deletion_timestamp.is_none() && unsupported_fields(&policy.spec).is_empty()
}

fn cooldown(scan: &ScanSpec) -> Duration {
    duration(&scan.cooldown).unwrap_or(FALLBACK)
}
