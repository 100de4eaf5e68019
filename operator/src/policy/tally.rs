//! Open findings, counted by policy.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use zastava_crds::{
    finding::{FindingType, RuntimeFinding},
    policy::{FindingTotals, MatchedStatus},
    wire::event::Severity,
};

use crate::pods::Pod;

/// Names of pods that a finding holds at most: a full list may be cut.
const SAMPLE: usize = 5;

/// One policy's open findings.
#[derive(Debug, Default)]
pub struct Tally {
    /// By severity.
    pub totals: FindingTotals,
    /// Pods that are named: namespace and name.
    pods: HashSet<(String, String)>,
    /// Workloads all of whose pods are meant: namespace, kind and name.
    workloads: HashSet<(String, String, String)>,
}

/// Tallies the findings that nobody has acknowledged and whose cause is not gone, by name of policy.
pub fn tally(findings: &[Arc<RuntimeFinding>]) -> HashMap<String, Tally> {
    let mut tallies: HashMap<String, Tally> = HashMap::new();
    for finding in findings.iter().filter(|finding| finding.spec.acknowledgement.is_none()) {
        let Some(status) = finding.status.as_ref().filter(|status| status.resolved.is_none()) else { continue };
        for policy in &status.policies {
            tallies.entry(policy.clone()).or_default().add(finding);
        }
    }
    tallies
}

impl Tally {
    fn add(&mut self, finding: &RuntimeFinding) {
        let Some(status) = &finding.status else { return };
        let total = match status.severity {
            Some(Severity::Critical) => &mut self.totals.critical,
            Some(Severity::High) => &mut self.totals.high,
            Some(Severity::Medium) => &mut self.totals.medium,
            Some(Severity::Low) => &mut self.totals.low,
            Some(Severity::Info) | None => &mut self.totals.info,
        };
        *total += 1;
        // What an exception covers is known and accepted.
        if finding.spec.type_ == FindingType::Exception {
            return;
        }
        let namespace = finding.metadata.namespace.clone().unwrap_or_default();
        // Admission names no pod, and a full sample not all of them: then it is about the workload.
        if status.pods.is_empty() || status.pods.len() >= SAMPLE {
            let workload = &finding.spec.workload;
            self.workloads.insert((namespace, workload.kind.clone(), workload.name.clone()));
        } else {
            self.pods.extend(status.pods.iter().map(|pod| (namespace.clone(), pod.clone())));
        }
    }

    /// The matched pods, and those that a finding is about.
    pub fn matched(&self, pods: &[Arc<Pod>]) -> MatchedStatus {
        let violates = |pod: &&Arc<Pod>| {
            let workload = &pod.workload;
            self.pods.contains(&(pod.namespace.clone(), pod.name.clone()))
                || self.workloads.contains(&(pod.namespace.clone(), workload.kind.clone(), workload.name.clone()))
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        MatchedStatus { pods: count(pods.len()), violating: count(pods.iter().filter(violates).count()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zastava_crds::wire::report::WorkloadRef;

    use super::*;

    fn finding(workload: &str, status: &Value, acknowledged: bool) -> Arc<RuntimeFinding> {
        let mut spec = json!({
            "workload": {"kind": "Deployment", "name": workload}, "container": "main", "type": "Drift", "subject": "/x",
        });
        if acknowledged {
            spec["acknowledgement"] = json!({"by": "me", "reason": "known"});
        }
        let object = json!({
            "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "RuntimeFinding",
            "metadata": {"namespace": "shop", "name": workload}, "spec": spec, "status": status,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn pod(workload: &str, name: &str) -> Arc<Pod> {
        Arc::new(Pod {
            uid: name.into(),
            namespace: "shop".into(),
            name: name.into(),
            node: None,
            labels: std::collections::BTreeMap::new(),
            workload: WorkloadRef { kind: "Deployment".into(), name: workload.into() },
            containers: Vec::new(),
            image_volumes: Vec::new(),
            finished: false,
        })
    }

    #[test]
    fn open_findings_count_by_policy_and_name_their_pods() {
        let severe = |severity: &str, pods: &[&str]| json!({"policies": ["p"], "severity": severity, "pods": pods});
        let mut mended = severe("High", &["mended-1"]);
        mended["resolved"] = json!({"at": "2026-01-01T00:00:00Z", "reason": "Satisfied", "message": "again"});
        let findings = [
            finding("web", &severe("High", &["web-1"]), false),
            finding("db", &severe("Medium", &[]), false),
            finding("big", &severe("High", &["1", "2", "3", "4", "5"]), false),
            finding("quiet", &severe("Critical", &["quiet-1"]), true),
            finding("mended", &mended, false),
        ];
        let pods = [
            pod("web", "web-1"),
            pod("web", "web-2"),
            pod("db", "db-1"),
            pod("big", "6"),
            pod("quiet", "quiet-1"),
            pod("mended", "mended-1"),
        ];
        let tallies = tally(&findings);
        let tally = &tallies["p"];
        assert_eq!(tally.totals, FindingTotals { high: 2, medium: 1, ..FindingTotals::default() });
        assert_eq!(tally.matched(&pods), MatchedStatus { pods: 6, violating: 3 });
        assert!(!tallies.contains_key("q"));
    }

    #[test]
    fn what_an_exception_covers_counts_and_violates_nothing() {
        let mut excepted = (*finding("web", &json!({"policies": ["p"], "severity": "Info"}), false)).clone();
        excepted.spec.type_ = FindingType::Exception;
        let tallies = tally(&[Arc::new(excepted)]);
        assert_eq!(tallies["p"].totals, FindingTotals { info: 1, ..FindingTotals::default() });
        assert_eq!(tallies["p"].matched(&[pod("web", "web-1")]), MatchedStatus { pods: 1, violating: 0 });
    }
}
