//! What policies say about keeping findings: how many, and for how long.

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use zastava_crds::policy::{FindingsSpec, ZastavaPolicy};

use super::{Caps, FindingMetrics, expire::expire, store::ApiStore};
use crate::{leader::Leadership, policy::Policies};

/// Time between two rounds.
const ROUND: Duration = Duration::from_mins(1);
/// For a policy whose own time can't be read, which its schema excludes: a week.
const FALLBACK: Duration = Duration::from_hours(168);

/// Starts to follow findings, and to remove what was not seen for its policies' time while this replica leads. The store
/// that it returns is the one way to findings, for the intake and for scans.
pub fn start(
    client: &Client,
    leadership: Leadership,
    policies: Policies,
    metrics: FindingMetrics,
    token: &CancellationToken,
) -> ApiStore {
    let store = ApiStore::start(client, leadership.clone(), metrics.clone(), token);
    tokio::spawn(token.clone().run_until_cancelled_owned(rounds(store.clone(), leadership, policies, metrics)));
    store
}

async fn rounds(store: ApiStore, leadership: Leadership, policies: Policies, metrics: FindingMetrics) {
    // A policy that was not read yet would look like one that is gone.
    policies.synced().await;
    loop {
        tokio::time::sleep(ROUND).await;
        if leadership.claim().is_err() {
            continue;
        }
        let times = policies.all().iter().map(|policy| (policy.name_any(), time(policy))).collect::<HashMap<_, _>>();
        match expire(&store, &times, default_time(), Timestamp::now(), &metrics).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "findings removed after their time"),
            Err(error) => tracing::debug!(%error, "findings stay until the next round"),
        }
    }
}

/// The highest cap among the policies that a finding is of.
pub fn caps(policies: Policies) -> Caps {
    Caps::new(move |names| {
        let of = |policy: &ZastavaPolicy| policy.spec.findings.max_per_namespace;
        let known = policies.all();
        let named = known.iter().filter(|policy| names.contains(&policy.name_any())).map(|policy| of(policy));
        let cap = named.max().unwrap_or_else(|| FindingsSpec::default().max_per_namespace);
        usize::try_from(cap).unwrap_or(usize::MAX)
    })
}

fn time(policy: &ZastavaPolicy) -> Duration {
    duration(&policy.spec.findings.ttl).unwrap_or(FALLBACK)
}

fn default_time() -> Duration {
    duration(&FindingsSpec::default().ttl).unwrap_or(FALLBACK)
}

/// A duration as policies write it, such as `1h30m`.
pub fn duration(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_policies_write_them() {
        for (text, seconds) in [("168h", 168 * 3600), ("1h30m", 5400), ("10m", 600), ("5s", 5)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("soon"), None);
        assert_eq!(default_time(), FALLBACK);
    }
}
