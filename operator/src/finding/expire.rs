//! Findings that were not seen for their policies' time go away.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt as _;
use zastava_crds::finding::{FindingType, RuntimeFinding};

use super::{
    FindingMetrics,
    store::{FindingStore, StoreError},
};

/// Removes what is older than its policies say; `times` by policy, `default` for findings whose policies are gone.
/// Returns how many went.
///
/// # Errors
/// [`StoreError::NotLeading`] ends the round; another error is logged, its finding stays for the next.
pub async fn expire<S: FindingStore>(
    store: &S,
    times: &HashMap<String, Duration>,
    default: Duration,
    now: Timestamp,
    metrics: &FindingMetrics,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    for finding in store.all() {
        if !is_over(&finding, times, default, now) {
            continue;
        }
        match store.delete(&finding).await {
            Ok(()) => {
                removed += 1;
                metrics.expired();
            }
            Err(StoreError::NotLeading) => return Err(StoreError::NotLeading),
            // Seen again meanwhile, or tried again in the next round.
            Err(error) => tracing::debug!(name = finding.name_any(), %error, "an old finding stays for now"),
        }
    }
    Ok(removed)
}

fn is_over(finding: &RuntimeFinding, times: &HashMap<String, Duration>, default: Duration, now: Timestamp) -> bool {
    let status = finding.status.as_ref();
    let resolved = status.and_then(|s| s.resolved.as_ref()).map(|resolved| &resolved.at);
    // It is not seen again and again, it stands until its cause is gone.
    if finding.spec.type_ == FindingType::Posture && resolved.is_none() {
        return false;
    }
    let seen = resolved.or(status.and_then(|s| s.last_seen.as_ref())).or(finding.metadata.creation_timestamp.as_ref());
    let Some(seen) = seen else { return false };
    let policies = status.map(|s| s.policies.as_slice()).unwrap_or_default();
    let time = policies.iter().filter_map(|policy| times.get(policy)).max().copied().unwrap_or(default);
    now.duration_since(seen.0).unsigned_abs() > time && now > seen.0
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use zastava_crds::finding::RuntimeFindingStatus;

    use super::*;
    use crate::finding::model::store::MemoryStore;

    #[tokio::test]
    async fn the_longest_time_among_its_policies_counts() {
        let store = MemoryStore::default();
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let hour = Duration::from_hours(1);
        for (name, hours, policies) in [
            ("old", 3, vec!["short"]),
            ("kept", 3, vec!["short", "long"]),
            ("orphan", 3, vec!["gone"]),
            ("new", 1, vec![]),
        ] {
            store.insert(
                name,
                RuntimeFindingStatus {
                    last_seen: Some(Time(now - hour * hours)),
                    policies: policies.into_iter().map(str::to_owned).collect(),
                    ..RuntimeFindingStatus::default()
                },
            );
        }
        let times = HashMap::from([("short".to_owned(), hour), ("long".to_owned(), hour * 10)]);
        let removed = expire(&store, &times, hour * 2, now, &FindingMetrics::default()).await.unwrap();
        assert_eq!(removed, 2);
        let left: Vec<_> = store.all().iter().map(|finding| finding.name_any()).collect();
        assert_eq!(left, ["kept", "new"]);
    }

    #[test]
    fn an_open_posture_finding_stays_and_a_resolved_one_goes_a_time_after_that() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let hour = Duration::from_hours(1);
        let over = |resolved: Option<u32>| {
            let resolved = resolved.map(|hours| {
                serde_json::json!({
                    "at": Time(now - hour * hours), "reason": "Satisfied", "message": "",
                })
            });
            let finding: RuntimeFinding = serde_json::from_value(serde_json::json!({
                "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "RuntimeFinding",
                "metadata": {"namespace": "shop", "name": "web"},
                "spec": {"workload": {"kind": "Pod", "name": "web"}, "container": "web", "type": "Posture", "subject": "sbom"},
                "status": {"lastSeen": Time(now - hour * 99), "resolved": resolved},
            }))
            .unwrap();
            is_over(&finding, &HashMap::new(), hour * 2, now)
        };
        assert!(!over(None));
        assert!(!over(Some(1)));
        assert!(over(Some(3)));
    }
}
