use strum::IntoEnumIterator as _;

use super::*;
use crate::{
    fake::Server,
    leader::Leadership,
    rollout::{
        build::{build, tests::owners},
        installation::tests::installation,
        validate::{Gate, Plan},
    },
};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

struct Scene {
    server: Server,
    applier: Applier,
    keeper: Keeper,
    serving: Option<Issued>,
    _lead: Box<dyn Send>,
}

impl Scene {
    fn new() -> Self {
        let server = Server::default();
        let (leadership, lead) = Leadership::held_for_tests();
        let applier = Applier::new(server.client(), leadership, Metrics::default());
        Self { server, applier, keeper: Keeper::default(), serving: None, _lead: Box::new(lead) }
    }

    fn snapshot(&self) -> Snapshot {
        let installation = installation();
        Snapshot::of(Object::iter().map(|object| (object, self.server.object(object, &installation))))
    }

    /// One pass at this second, with the objects of one policy applied after it; `configured` as the loop finds it.
    async fn pass(&mut self, second: i64, configured: bool) -> (Outcome, Vec<String>) {
        let (installation, owners, snapshot) = (installation(), owners(), self.snapshot());
        let circumstances = Circumstances {
            installation: &installation,
            snapshot: &snapshot,
            replicas: &[],
            owners: &owners,
            serving: self.serving.clone(),
            now: at(second),
        };
        let outcome = Box::pin(self.keeper.keep(&circumstances, &mut self.applier, &Metrics::default())).await.unwrap();
        let writes = self.server.writes();
        let gate = Gate {
            name: "a".into(),
            uid: "u".into(),
            generation: 1,
            failure_policy: zastava_crds::policy::FailurePolicy::Fail,
            namespace_selector: None,
            pod_selector: None,
            images: Vec::new(),
            unmatched: zastava_crds::policy::Unmatched::Allow,
            pins: false,
        };
        let plan = Plan { observed_by: 1, kills: false, gates: vec![gate], ..Plan::default() };
        let resources = build(&installation, &plan, &owners, &outcome.trust, configured, false);
        Box::pin(self.applier.rollout(resources, &installation, &snapshot)).await.unwrap();
        self.server.writes();
        (outcome, writes)
    }

    fn leaf(&self, object: Object) -> Issued {
        read_leaf(&self.snapshot().typed::<Secret, _>(object).unwrap()).unwrap().0
    }

    fn authority(&self) -> Issued {
        read_authority(&self.snapshot().typed::<Secret, _>(Object::CaSecret).unwrap()).unwrap().cert
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_pass_makes_all_secrets_and_the_second_writes_none() {
    let mut scene = Scene::new();
    let (outcome, writes) = scene.pass(0, false).await;
    assert_eq!(
        writes,
        ["apply zastava-ca (secrets)", "apply zastava-webhook-tls (secrets)", "apply zastava-intake-tls (secrets)",]
    );
    assert_eq!(outcome.serving, 0);
    assert!(outcome.trust.webhook.contains(&scene.authority()));
    assert!(scene.pass(1, false).await.1.is_empty());
    assert_eq!(scene.leaf(Object::WebhookSecret).issuer, scene.authority().subject);
}

#[tokio::test(start_paused = true)]
async fn a_new_authority_is_trusted_before_anything_is_issued_by_it() {
    let mut scene = Scene::new();
    scene.pass(0, true).await;
    scene.pass(1, true).await;
    let old = (scene.authority(), scene.leaf(Object::WebhookSecret));
    scene.serving = Some(scene.leaf(Object::IntakeSecret));
    // Its Secret is lost: what was issued by it still serves.
    scene.server.lose(Object::CaSecret, &installation());
    let (outcome, writes) = scene.pass(10, true).await;
    assert_eq!(writes, ["apply zastava-ca (secrets)"]);
    assert!(outcome.trust.webhook.contains(&old.0) && outcome.trust.webhook.contains(&scene.authority()));
    assert_ne!(scene.authority(), old.0);
    // The bundle was applied by that pass; the leaf waits until every API server has seen it.
    assert!(scene.pass(11, true).await.1.is_empty());
    tokio::time::advance(WEBHOOK_PROPAGATION).await;
    assert_eq!(scene.pass(20, true).await.1, ["apply zastava-webhook-tls (secrets)"]);
    assert_eq!(scene.leaf(Object::WebhookSecret).issuer, scene.authority().subject);
    // Kubelets take longer to bring a ConfigMap into a pod.
    tokio::time::advance(INTAKE_PROPAGATION).await;
    assert_eq!(scene.pass(180, true).await.1, ["apply zastava-intake-tls (secrets)"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_leaf_comes_back_at_once_under_an_authority_that_is_trusted() {
    let mut scene = Scene::new();
    scene.pass(0, true).await;
    scene.pass(1, true).await;
    tokio::time::advance(WEBHOOK_PROPAGATION).await;
    let before = scene.leaf(Object::WebhookSecret);
    scene.server.lose(Object::WebhookSecret, &installation());
    assert_eq!(scene.pass(10, true).await.1, ["apply zastava-webhook-tls (secrets)"]);
    assert_ne!(scene.leaf(Object::WebhookSecret).fingerprint, before.fingerprint);
}

#[tokio::test(start_paused = true)]
async fn leaves_are_renewed_ahead_of_their_end() {
    let mut scene = Scene::new();
    scene.pass(0, true).await;
    scene.pass(1, true).await;
    tokio::time::advance(INTAKE_PROPAGATION).await;
    assert!(scene.pass(19 * DAY, true).await.1.is_empty());
    let writes = scene.pass(21 * DAY, true).await.1;
    assert_eq!(writes, ["apply zastava-webhook-tls (secrets)", "apply zastava-intake-tls (secrets)"]);
}
