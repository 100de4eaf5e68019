use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    policy::coverage::Standing,
    posture::Outlook,
    rollout::{Deployed, Fault, Object},
};
use zastava_crds::wire::sync::CoverageReason;

const UID: &str = "uid-of-p";

fn policy(spec: &Value) -> ZastavaPolicy {
    serde_json::from_value(json!({
        "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
        "metadata": {"name": "p", "uid": UID, "generation": 3}, "spec": spec,
    }))
    .unwrap()
}

fn both() -> Value {
    json!({"mode": "Enforce", "runtime": {}, "admission": {"signatures": [{"name": "release", "authorities": [
        {"key": {"pem": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"}}]}]}})
}

/// A scene in which all is well, for tests to spoil.
struct Stage {
    policy: ZastavaPolicy,
    installation: Installation,
    report: Report,
    survey: Survey,
    overdue: bool,
    webhook_overdue: bool,
    posture: Option<Outlook>,
    now: i64,
}

impl Stage {
    fn new(spec: impl Into<Value>) -> Self {
        let mut installation = Installation::default();
        installation.webhook.enabled = true;
        installation.webhook.replicas = 2;
        let gates = BTreeMap::from([(UID.to_owned(), 3)]);
        let deployed = Deployed { observer: true, webhook: true, serving: 2, gates };
        let observing = Standing::Observing { kills: false, reasons: Vec::new() };
        let nodes = ["a", "b", "c"].map(|node| (node.to_owned(), observing.clone())).into();
        Self {
            policy: policy(&spec.into()),
            installation,
            report: Report { deployed: Some(deployed), faults: Vec::new() },
            survey: Survey { nodes, full: 4, ..Survey::default() },
            overdue: false,
            webhook_overdue: false,
            posture: None,
            now: 1_800_000_000,
        }
    }

    fn miss(&mut self, node: &str, usable: bool) {
        let missing = Standing::Missing { reason: CoverageReason::NotObserved, usable };
        self.survey.nodes.insert(node.to_owned(), missing);
    }

    fn deployed(&mut self) -> &mut Deployed {
        self.report.deployed.as_mut().unwrap()
    }

    fn status(&self) -> ZastavaPolicyStatus {
        status(&Scene {
            policy: &self.policy,
            installation: &self.installation,
            report: &self.report,
            survey: &self.survey,
            overdue: &|_| self.overdue,
            webhook_overdue: self.webhook_overdue,
            matched: MatchedStatus { pods: 4, violating: 1 },
            findings: FindingTotals { high: 2, ..FindingTotals::default() },
            posture: self.posture.as_ref(),
            now: Timestamp::from_second(self.now).unwrap(),
        })
    }

    /// `type=status/reason` of each condition.
    fn conditions(&self) -> String {
        let status = self.status();
        assert!(status.conditions.iter().all(|c| c.observed_generation == Some(3)), "{:?}", status.conditions);
        let told = status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason));
        told.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn all_is_well() {
    let status = Stage::new(both()).status();
    assert_eq!(
        Stage::new(both()).conditions(),
        "ObserverAvailable=True/Available Ready=True/Available WebhookAvailable=True/Available"
    );
    assert_eq!(status.observed_generation, 3);
    assert_eq!(status.observer.unwrap().summary, "3/3");
    assert_eq!(status.webhook.unwrap().summary, "2/2");
    assert!(status.policy_hash.unwrap().starts_with("sha256:"));
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.message, "3 of 3 nodes with matched pods observe; 2 of 2 replicas of the webhook serve");
}

#[test]
fn a_serious_finding_is_no_reason_not_to_be_ready() {
    let status = Stage::new(both()).status();
    assert_eq!(status.findings.unwrap().high, 2);
    assert_eq!(status.matched.unwrap().violating, 1);
}

#[test]
fn a_part_that_nobody_asks_for_is_not_waited_for() {
    let mut stage = Stage::new(json!({"runtime": {}}));
    *stage.deployed() = Deployed { observer: true, ..Deployed::default() };
    assert_eq!(
        stage.conditions(),
        "ObserverAvailable=True/Available Ready=True/Available WebhookAvailable=False/NotRequested"
    );
    assert_eq!(stage.status().webhook, None);
}

#[test]
fn a_usable_node_that_does_not_observe_is_in_the_way_and_later_degraded_too() {
    let mut stage = Stage::new(json!({"runtime": {}}));
    stage.miss("b", true);
    assert_eq!(
        stage.conditions(),
        "ObserverAvailable=False/Progressing Ready=False/Progressing Reconciling=True/Progressing \
         WebhookAvailable=False/NotRequested"
    );
    stage.overdue = true;
    assert_eq!(
        stage.conditions(),
        "Degraded=True/NotObserving ObserverAvailable=False/NotObserving Ready=False/NotObserving \
         WebhookAvailable=False/NotRequested"
    );
    assert_eq!(stage.status().observer.unwrap().summary, "2/3");
}

#[test]
fn a_broken_node_degrades_and_does_not_stand_in_the_way() {
    let mut stage = Stage::new(json!({"runtime": {}}));
    stage.miss("b", false);
    assert_eq!(
        stage.conditions(),
        "Degraded=True/NotObserving ObserverAvailable=True/Available Ready=True/Available \
         WebhookAvailable=False/NotRequested"
    );
}

#[test]
fn a_node_in_its_start_grace_does_not_stand_in_the_way() {
    let mut stage = Stage::new(json!({"runtime": {}}));
    stage.survey.nodes.insert("d".into(), Standing::Starting);
    assert!(stage.conditions().contains("Ready=True/Available"));
    assert_eq!(stage.status().observer.unwrap().summary, "3/4");
}

#[test]
fn a_new_leader_keeps_what_the_old_one_found_until_observers_have_spoken() {
    let mut stage = Stage::new(json!({"runtime": {}}));
    stage.survey.nodes.insert("b".into(), Standing::Unheard);
    assert!(stage.conditions().contains("Ready=False/Progressing"), "nothing is known from before");
    stage.policy.status = Some(Stage::new(json!({"runtime": {}})).status());
    assert_eq!(change(stage.policy.status.as_ref(), &stage.status()), Change::None);
    stage.policy.metadata.generation = Some(4);
    let status = stage.status();
    assert!(status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "False"));
}

#[test]
fn the_webhook_is_waited_for_step_by_step() {
    let mut spec = both();
    spec.as_object_mut().unwrap().remove("runtime");
    let mut stage = Stage::new(spec);
    stage.deployed().gates.clear();
    assert!(stage.conditions().contains("Ready=False/Progressing Reconciling=True/Progressing"));
    stage.deployed().gates.insert(UID.into(), 2);
    assert!(stage.conditions().contains("Ready=False/Progressing Reconciling=True/Progressing"), "an older spec");
    stage.deployed().gates.insert(UID.into(), 3);
    stage.deployed().serving = 1;
    assert!(stage.conditions().contains("Ready=True/Available Reconciling=True/Progressing"));
    stage.webhook_overdue = true;
    assert!(stage.conditions().starts_with("Degraded=True/WebhookUnavailable"));
    assert!(stage.conditions().contains("Ready=True/Available"));
    stage.deployed().serving = 0;
    assert!(stage.conditions().contains("Ready=False/WebhookUnavailable"));
    stage.deployed().serving = 3;
    assert_eq!(stage.status().webhook.unwrap().summary, "2/2", "an update runs one more");
}

#[test]
fn out_of_force_by_suspension_field_rule_or_break_glass() {
    let mut suspended = both();
    suspended["suspend"] = true.into();
    assert_eq!(
        Stage::new(suspended).conditions(),
        "ObserverAvailable=False/Suspended Ready=False/Suspended WebhookAvailable=False/Suspended"
    );
    let unsupported = Stage::new(json!({"runtime": {}, "scan": {"on": ["Posture"]}}));
    assert!(unsupported.conditions().ends_with("Stalled=True/NotSupported WebhookAvailable=False/NotSupported"));
    let status = unsupported.status();
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    assert!(stalled.message.contains("spec.scan.on: Posture"), "{}", stalled.message);
    assert_eq!((status.policy_hash, status.observer), (None, None));
    assert!(Stage::new(json!({})).conditions().contains("Stalled=True/Invalid"));
    let mut disabled = Stage::new(both());
    disabled.installation.webhook.enabled = false;
    assert!(disabled.conditions().contains("Ready=False/AdmissionDisabled Stalled=True/AdmissionDisabled"));
    assert_eq!(disabled.status().webhook, None);
}

#[test]
fn a_fault_is_told_by_the_name_of_the_object() {
    let mut stage = Stage::new(both());
    stage.report = Report {
        deployed: None,
        faults: vec![Fault { object: Object::ObserverDaemonSet, message: "forbidden".into() }],
    };
    assert!(stage.conditions().contains("Ready=False/ApplyFailed Reconciling=True/Progressing"));
    let ready = stage.status().conditions.into_iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.message, "DaemonSet zastava-observer: forbidden");
}

#[test]
fn what_has_to_be_written() {
    let mut stage = Stage::new(both());
    let first = stage.status();
    assert_eq!(change(None, &first), Change::Conditions);
    stage.policy.status = Some(first.clone());
    stage.now += 100;
    assert_eq!(change(Some(&first), &stage.status()), Change::None, "time alone changes nothing");
    stage.survey.full += 1;
    assert_eq!(change(Some(&first), &stage.status()), Change::Counters);
    stage.survey.nodes.remove("c");
    assert_eq!(change(Some(&first), &stage.status()), Change::Counters, "words follow, the condition stands");
    stage.deployed().serving = 0;
    assert_eq!(change(Some(&first), &stage.status()), Change::Conditions);
    let mut others = first.clone();
    let mut foreign = first.conditions[0].clone();
    foreign.type_ = "example.org/Checked".into();
    others.conditions.push(foreign);
    stage = Stage { policy: stage.policy, ..Stage::new(both()) };
    stage.policy.status = Some(others.clone());
    assert_eq!(change(Some(&others), &stage.status()), Change::None, "another's condition is not ours to judge");
}

#[test]
fn transition_times_move_with_the_status_only() {
    let mut stage = Stage::new(both());
    stage.policy.status = Some(stage.status());
    stage.now += 100;
    let time = |stage: &Stage| {
        stage.status().conditions.into_iter().find(|c| c.type_ == "Ready").unwrap().last_transition_time.0.as_second()
    };
    assert_eq!(time(&stage), 1_800_000_000);
    stage.deployed().serving = 0;
    assert_eq!(time(&stage), 1_800_000_100);
}

#[test]
fn a_policy_that_asks_a_backend_that_nobody_configured_is_stalled_and_says_what_to_set() {
    let mut spec = both();
    spec["admission"]["verdict"] = json!({"required": true});
    let mut stage = Stage::new(spec);
    assert_eq!(
        stage.conditions(),
        "ObserverAvailable=True/Available Ready=False/NotConfigured Stalled=True/NotConfigured \
         WebhookAvailable=False/NotConfigured"
    );
    let status = stage.status();
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").unwrap();
    assert!(stalled.message.contains("set backend.url in the chart's values"), "{}", stalled.message);
    stage.installation.backend.url = "https://s.example".to_owned();
    assert_eq!(
        stage.conditions(),
        "ObserverAvailable=True/Available Ready=True/Available WebhookAvailable=True/Available"
    );
}

#[test]
fn what_runs_is_told_in_numbers_and_never_makes_a_policy_less_than_ready() {
    let mut spec = both();
    spec["runtime"] = json!({"posture": {"interval": "1h"}});
    let mut stage = Stage::new(spec);
    let said = |stage: &Stage| {
        let status = stage.status();
        assert!(status.conditions.iter().any(|c| c.type_ == types::READY && c.status == "True"));
        let one = status.conditions.into_iter().find(|c| c.type_ == types::POSTURE_SATISFIED).unwrap();
        (format!("{}/{}", one.status, one.reason), one.message)
    };
    assert_eq!(said(&stage).0, "Unknown/Progressing");
    let outlook =
        Outlook { generation: 3, images: 5, satisfied: 2, violated: 1, unknown: 1, excepted: 1, ..Outlook::default() };
    stage.posture = Some(Outlook { generation: 2, ..outlook.clone() });
    assert_eq!(said(&stage).0, "Unknown/Progressing", "numbers of an older spec");
    stage.posture = Some(outlook.clone());
    let (told, message) = said(&stage);
    assert_eq!(told, "False/Violated");
    assert_eq!(message, "of 5 running images 2 satisfy, 1 excepted, 1 in violation, 1 unknown");
    stage.posture = Some(Outlook { violated: 0, doubt: Some("shop/web: away".into()), ..outlook.clone() });
    let (told, message) = said(&stage);
    assert_eq!(told, "Unknown/Unverifiable");
    assert!(message.ends_with("; shop/web: away"), "{message}");
    stage.posture = Some(Outlook { violated: 0, unknown: 0, ..outlook });
    assert_eq!(said(&stage).0, "True/Satisfied");
}

#[test]
fn a_new_leader_that_has_no_answers_yet_unsays_nothing() {
    let mut spec = both();
    spec["runtime"] = json!({"posture": {"interval": "1h"}});
    let mut stage = Stage::new(spec.clone());
    stage.posture = Some(Outlook { generation: 3, images: 1, violated: 1, ..Outlook::default() });
    let before = stage.status();
    stage.policy.status = Some(before.clone());
    for posture in [None, Some(Outlook { generation: 3, images: 1, pending: 1, ..Outlook::default() })] {
        stage.posture = posture;
        assert_eq!(stage.status().conditions, before.conditions);
    }
    // An image of which nothing can ever be said is unknown at once, before the others are answered.
    let outlook = Outlook { generation: 3, images: 2, unknown: 1, pending: 1, ..Outlook::default() };
    stage.posture = Some(outlook.clone());
    assert_eq!(stage.status().conditions, before.conditions);
    let said = |stage: &Stage| {
        let status = stage.status();
        let one = status.conditions.iter().find(|c| c.type_ == types::POSTURE_SATISFIED).unwrap();
        (format!("{}/{}", one.status, one.reason), status)
    };
    stage.posture = Some(Outlook { images: 1, pending: 0, ..outlook.clone() });
    assert_eq!(said(&stage).0, "Unknown/Unverifiable", "nothing is awaited any more");
    // A pass does not outlive a doubt, whatever else is awaited.
    stage.posture = Some(Outlook { generation: 3, images: 1, satisfied: 1, ..Outlook::default() });
    let (told, satisfied) = said(&stage);
    assert_eq!(told, "True/Satisfied");
    stage.policy.status = Some(satisfied);
    stage.posture = Some(outlook);
    assert_eq!(said(&stage).0, "Unknown/Unverifiable");
    stage.policy.spec.runtime.as_mut().unwrap().posture = None;
    assert!(!stage.conditions().contains("PostureSatisfied"));
}
