use strum::IntoEnumIterator as _;
use zastava_crds::policy::{FailurePolicy, MatchSpec, Unmatched};

use super::*;
use crate::{
    certificates::Authority,
    fake::Server,
    rollout::{
        build::{Trust, build, tests::owners},
        installation::tests::installation,
        validate::{Gate, Guard, Plan},
    },
};

fn trust() -> Trust {
    let mut bundle = crate::certificates::TrustBundle::default();
    bundle.add(Authority::mint(jiff::Timestamp::from_second(1_800_000_000).unwrap()).unwrap().cert);
    Trust { webhook: bundle.clone(), intake: bundle }
}

fn gated() -> Plan {
    let gate = Gate {
        name: "release".into(),
        uid: "u1".into(),
        generation: 1,
        failure_policy: FailurePolicy::Fail,
        namespace_selector: None,
        pod_selector: None,
        images: Vec::new(),
        unmatched: Unmatched::Allow,
        pins: true,
    };
    Plan { observed_by: 1, kills: false, gates: vec![gate], ..Plan::default() }
}

fn snapshot(server: &Server) -> Snapshot {
    let installation = installation();
    Snapshot::of(Object::iter().map(|object| (object, server.object(object, &installation))))
}

struct Scene {
    server: Server,
    applier: Applier,
    trust: Trust,
    _lead: Box<dyn Send>,
}

impl Scene {
    fn new() -> Self {
        let server = Server::default();
        let (leadership, lead) = Leadership::held_for_tests();
        let applier = Applier::new(server.client(), leadership, Metrics::default());
        Self { server, applier, trust: trust(), _lead: Box::new(lead) }
    }

    async fn pass(&mut self, plan: &Plan, configured: bool) -> Result<Vec<String>, Vec<Fault>> {
        let installation = installation();
        let resources = build(&installation, plan, &owners(), &self.trust, configured, false);
        let snapshot = snapshot(&self.server);
        Box::pin(self.applier.rollout(resources, &installation, &snapshot)).await.map(|_| self.server.writes())
    }
}

#[tokio::test]
async fn the_configurations_come_last_and_a_second_pass_writes_nothing() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.pass(&gated(), true).await.unwrap(),
        [
            "apply zastava-intake-ca (configmaps)",
            "apply zastava-intake-ca (configmaps)",
            "apply zastava-webhook (configmaps)",
            "apply zastava-webhook (services)",
            "apply zastava-webhook (poddisruptionbudgets)",
            "apply zastava-webhook (deployments)",
            "apply zastava-observer (daemonsets)",
            "apply zastava (mutatingwebhookconfigurations)",
            "apply zastava (validatingwebhookconfigurations)",
        ]
    );
    assert!(scene.pass(&gated(), true).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_configurations_go_first() {
    let mut scene = Scene::new();
    scene.pass(&gated(), true).await.unwrap();
    assert_eq!(
        scene.pass(&Plan::default(), false).await.unwrap(),
        [
            "delete zastava (mutatingwebhookconfigurations)",
            "delete zastava (validatingwebhookconfigurations)",
            "delete zastava-webhook (configmaps)",
            "delete zastava-webhook (services)",
            "delete zastava-webhook (poddisruptionbudgets)",
            "delete zastava-webhook (deployments)",
            "delete zastava-observer (daemonsets)",
        ]
    );
}

#[tokio::test]
async fn the_guard_comes_without_the_webhook_and_goes_before_it() {
    let mut scene = Scene::new();
    let guard = Guard { name: "strict".into(), always: true, scope: MatchSpec::default(), exemptions: Vec::new() };
    let guarded = || Plan { guards: vec![guard.clone()], ..gated() };
    let writes = scene.pass(&guarded(), false).await.unwrap();
    let guard = ["zastava (validatingadmissionpolicies)", "zastava (validatingadmissionpolicybindings)"];
    assert!(writes.ends_with(&guard.map(|object| format!("apply {object}"))), "{writes:?}");
    assert!(scene.pass(&guarded(), false).await.unwrap().is_empty(), "at rest nothing is written");
    let writes = scene.pass(&Plan::default(), false).await.unwrap();
    assert!(writes.starts_with(&[format!("delete {}", guard[1]), format!("delete {}", guard[0])]), "{writes:?}");
    assert!(scene.pass(&gated(), false).await.unwrap().iter().all(|write| !write.contains("admissionpolic")));
}

#[tokio::test]
async fn what_somebody_changed_or_removed_comes_back_and_nothing_else_is_touched() {
    let mut scene = Scene::new();
    let installation = installation();
    scene.pass(&gated(), true).await.unwrap();
    scene.server.change(Object::WebhookDeployment, &installation, |object| object["spec"]["replicas"] = 0.into());
    assert_eq!(scene.pass(&gated(), true).await.unwrap(), ["apply zastava-webhook (deployments)"]);
    scene.server.lose(Object::ObserverDaemonSet, &installation);
    assert_eq!(scene.pass(&gated(), true).await.unwrap(), ["apply zastava-observer (daemonsets)"]);
    scene.server.change(Object::WebhookDeployment, &installation, |object| {
        object["status"] = serde_json::json!({"replicas": 2});
        object["metadata"]["resourceVersion"] = "999".into();
    });
    assert!(scene.pass(&gated(), true).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_strangers_object_of_the_same_name_is_not_removed() {
    let mut scene = Scene::new();
    let installation = installation();
    scene.pass(&gated(), true).await.unwrap();
    scene.server.change(Object::Validating, &installation, |object| {
        object["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody".into();
    });
    let writes = scene.pass(&Plan::default(), false).await.unwrap();
    assert!(!writes.contains(&"delete zastava (validatingwebhookconfigurations)".to_owned()), "{writes:?}");
}

#[tokio::test]
async fn what_is_refused_is_told_and_the_rest_is_applied() {
    let mut scene = Scene::new();
    let installation = installation();
    scene.server.refuse(Object::WebhookService, &installation);
    let faults = scene.pass(&gated(), true).await.unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.object).collect::<Vec<_>>(), [Object::WebhookService]);
    assert!(scene.server.object(Object::ObserverDaemonSet, &installation).is_some());
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let mut scene = Scene::new();
    let leadership = Leadership::never_for_tests();
    scene.applier = Applier::new(scene.server.client(), leadership, Metrics::default());
    assert!(!scene.pass(&gated(), true).await.unwrap_err().is_empty());
    assert!(scene.server.writes().is_empty());
}
