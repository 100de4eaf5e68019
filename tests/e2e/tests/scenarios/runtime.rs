//! What really runs: where it came from, what is done about it, and what is left alone.

mod absent;
mod already;
mod classes;
mod clean;
mod fleeting;
mod kill;
mod libraries;
mod scan;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use serde_json::{Value, json};
use zastava_crds::finding::{FindingType, RuntimeFinding};
use zastava_crds::wire::event::{DriftClass, Severity};
use zastava_e2e::scene::Scene;
use zastava_e2e::wait::{Seen, until};
use zastava_e2e::workload::Workload;

/// How long a finding may take on a machine that does much else.
const FOUND: Duration = Duration::from_mins(1);
/// How long observers may take to be replaced, one node after the other.
const ROLLED_OUT: Duration = Duration::from_mins(2);

/// The image of the scenarios that need no signature: one for all of them.
fn image(scene: &Scene<'_>) -> anyhow::Result<String> {
    Ok(Workload::push_for_drift(scene.stage(), "drift", "1", "runtime")?.reference().tagged())
}

/// A pod with a volume of its own at `/data` and another one at `/plugins`.
fn pod(scene: &Scene<'_>, name: &str, image: &str) -> Value {
    let mut pod = scene.pod(name, image);
    let mounts = json!([{"name": "data", "mountPath": "/data"}, {"name": "plugins", "mountPath": "/plugins"}]);
    pod["spec"]["containers"][0]["volumeMounts"] = mounts;
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}, {"name": "plugins", "emptyDir": {}}]);
    pod
}

/// Starts a pod, then puts the policy in force, so that Ready speaks of this pod's node; returns the node. Observers
/// that others' policies, or the want of any, replaced are there again.
async fn observed(scene: &Scene<'_>, pod: Value, policy: Value) -> anyhow::Result<String> {
    let name = pod["metadata"]["name"].as_str().context("the pod has no name")?.to_owned();
    scene.create(pod).await?.taken()?;
    let running = scene.running(&name).await?;
    scene.policy(policy).await?;
    observers(scene).await?;
    running.spec.and_then(|spec| spec.node_name).context("a running pod has a node")
}

/// Waits until every node runs the observer as it is now.
async fn observers(scene: &Scene<'_>) -> anyhow::Result<()> {
    let sets: Api<DaemonSet> = Api::namespaced(scene.client().clone(), "zastava-observer");
    let rolled_out = until("the observers are rolled out", ROLLED_OUT, async || {
        let Some(set) = sets.get_opt("zastava-observer").await? else {
            return Ok(Seen::NotYet("no such DaemonSet".into()));
        };
        let status = set.status.unwrap_or_default();
        let desired = Some(status.desired_number_scheduled).filter(|desired| *desired > 0);
        let done = status.observed_generation >= set.metadata.generation
            && desired.is_some()
            && status.updated_number_scheduled == desired
            && status.number_available == desired;
        Ok(if done { Seen::There(()) } else { Seen::NotYet(serde_json::to_string(&status)?) })
    });
    Ok(rolled_out.await?)
}

/// `fresh FILE` makes a program that no image holds; `tell NAME PROGRAM ...` prints what became of an exec.
const WORDS: &str = r#"
fresh() { cp /bin/busybox "$1" && echo >>"$1"; }
tell() { name=$1; shift; said=$("$@" 2>&1); echo "$name $? $said"; }
"#;

/// Runs such a script in a pod; what became of each exec, by name.
fn told(scene: &Scene<'_>, pod: &str, script: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let printed = scene.shell(pod, &format!("{WORDS}{script}"))?.stdout()?;
    let line = |line: &str| {
        let (name, rest) = line.split_once(' ').with_context(|| format!("not a line of tell: {line}"))?;
        Ok((name.to_owned(), rest.trim_end().to_owned()))
    };
    printed.lines().map(line).collect()
}

/// A drift finding as it should be.
#[derive(Debug)]
struct Expected {
    pod: &'static str,
    subject: &'static str,
    class: DriftClass,
    severity: Severity,
    killed: &'static str,
    would_kill: bool,
    count: u64,
}

impl Expected {
    /// Seen once in pod `app`, and let live.
    const fn once(subject: &'static str, class: DriftClass, severity: Severity) -> Self {
        Self { pod: "app", subject, class, severity, killed: "no", would_kill: false, count: 1 }
    }

    const fn in_pod(self, pod: &'static str) -> Self {
        Self { pod, ..self }
    }

    /// Whether a finding is about it.
    fn is_about(&self, finding: &RuntimeFinding) -> bool {
        let spec = &finding.spec;
        spec.type_ == FindingType::Drift && spec.workload.name == self.pod && spec.subject == self.subject
    }

    /// Short of Enforce.
    const fn would_kill(self) -> Self {
        Self { would_kill: true, ..self }
    }

    const fn killed(self, when: &'static str) -> Self {
        Self { killed: when, ..self }
    }

    const fn times(self, count: u64) -> Self {
        Self { count, ..self }
    }

    /// Waits for it, and holds it against what was expected.
    async fn found(&self, scene: &Scene<'_>) -> anyhow::Result<RuntimeFinding> {
        let enough = |finding: &RuntimeFinding| {
            self.is_about(finding) && finding.status.as_ref().map_or(0, |status| status.count) >= self.count
        };
        let finding = scene.finding(&format!("{self:?}"), FOUND, enough).await?;
        let status = finding.status.as_ref().context("no status")?;
        let evidence = status.evidence.as_ref().context("no evidence")?;
        let seen = (evidence.class, status.severity, evidence.killed.as_deref(), evidence.would_kill, status.count);
        let wanted = (Some(self.class), Some(self.severity), Some(self.killed), self.would_kill, self.count);
        ensure!(seen == wanted, "{}: {seen:?}, not {wanted:?}: {}", self.subject, evidence.message);
        ensure!(!status.unverified, "{}: unverified", self.subject);
        ensure!(status.policies == [scene.namespace()], "{}: found by {:?}", self.subject, status.policies);
        Ok(finding)
    }
}

/// Waits for all of them, and for no others.
async fn found(scene: &Scene<'_>, expected: &[Expected]) -> anyhow::Result<Vec<RuntimeFinding>> {
    let mut findings = Vec::new();
    for one in expected {
        findings.push(one.found(scene).await?);
    }
    let all = scene.findings().await?;
    let strange = all.iter().filter(|finding| !expected.iter().any(|one| one.is_about(finding)));
    let strange: Vec<_> = strange.map(|finding| (&finding.spec.workload.name, &finding.spec.subject)).collect();
    ensure!(strange.is_empty(), "found as well: {strange:?}");
    Ok(findings)
}
