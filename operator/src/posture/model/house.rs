//! The model's house: one policy over one namespace, and hands to move everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use zastava_admission::policies::{
    keys::{Content, Keyring, Source},
    policy::Requirements,
};
use zastava_crds::{
    digest::Sha256Digest,
    finding::{ResolutionReason, RuntimeFinding},
    policy::ZastavaPolicy,
    wire::{event::Severity, report::WorkloadRef, sync::RuleSet},
};
use zastava_verify::image::Platforms;

use crate::{
    finding::{Caps, model::store::MemoryStore},
    pods::{Pod, PodContainer},
    posture::{
        Outlook, Outlooks, PostureMetrics,
        answers::{Doubt, Question, Violation, Word},
        book::Asking,
        examine::Examiner,
        survey::{Asked, World},
        worker::Worker,
    },
};

pub(super) const POLICY: &str = "signed";
pub(super) const KEY_A: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEdUWTyPG4UqXcIRggZgyyB1DIJQ8/
noKVHm0QZuuGiDj1mVFZy7+rTo5Rd+OhL/iidqjJHvpuuIHemhx2F8YKCw==
-----END PUBLIC KEY-----
";
pub(super) const KEY_B: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAERCceAruYCm/vNYCTqlOn7XXYSnkl
ADfYX9avjYdjJZlx8SoARslUt+444FoT3anm8nfbqEjmR8ouiXpNMmiaZw==
-----END PUBLIC KEY-----
";

/// A registry that knows under which keys a digest is signed; clones are the same.
#[derive(Clone, Default)]
pub(super) struct FakeRegistry(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    signed: BTreeSet<(Sha256Digest, Sha256Digest)>,
    /// What is asked of it, each time.
    asked: Vec<String>,
    away: bool,
    /// Whose checks never end, and whose break off.
    hangs: BTreeSet<Sha256Digest>,
    breaks: BTreeSet<Sha256Digest>,
}

impl FakeRegistry {
    pub(super) fn away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// No check of this digest ends from now on.
    pub(super) fn hang(&self, digest: char) {
        self.0.lock().unwrap().hangs.insert(sha(digest));
    }

    /// Each check of this digest panics, until it is mended.
    pub(super) fn break_off(&self, digest: char) {
        self.0.lock().unwrap().breaks.insert(sha(digest));
    }

    pub(super) fn mend(&self) {
        self.0.lock().unwrap().breaks.clear();
    }

    /// What was asked since the last call.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

impl Examiner for FakeRegistry {
    fn examine(
        &self,
        Question { running, .. }: &Question,
        asked: &Asked,
    ) -> impl Future<Output = (Word, &'static str)> + Send {
        let mut held = self.0.lock().unwrap();
        let digest = running.digest().cloned();
        held.asked.push(digest.as_ref().map_or_else(|| format!("{running:?}"), |digest| digest.hex()[..1].to_owned()));
        let is_in = |those: &BTreeSet<Sha256Digest>| digest.as_ref().is_some_and(|digest| those.contains(digest));
        let (hangs, breaks) = (is_in(&held.hangs), is_in(&held.breaks));
        let keys = asked.proof.as_ref().unwrap().policy().keys().clone();
        let signed = digest.is_some_and(|digest| held.signed.contains(&(digest, keys)));
        let answer = match (held.away, signed) {
            (true, _) => {
                let message = "registry.example does not answer".to_owned();
                let doubt = Doubt { message, next_step: "look after it".to_owned(), retry_after: None };
                (Word::Unknown(doubt), "unreachable")
            }
            (false, true) => (Word::Satisfied { until: None }, "proven"),
            (false, false) => {
                let violation = Violation {
                    severity: Severity::High,
                    digest: None,
                    requirement: "signatures[team]".to_owned(),
                    found: "no signature".to_owned(),
                    next_step: "sign it".to_owned(),
                };
                (Word::Violated(violation), "no_signature")
            }
        };
        drop(held);
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            assert!(!breaks, "a check that breaks off");
            answer
        }
    }
}

/// One policy over namespace `shop`, with its key in a ConfigMap.
pub(super) struct House {
    pub(super) store: MemoryStore,
    pub(super) registry: FakeRegistry,
    pub(super) metrics: PostureMetrics,
    pub(super) now: Timestamp,
    pub(super) pods: Vec<Arc<Pod>>,
    keys: Keyring,
    /// `None`: it was deleted.
    spec: Option<Value>,
    generation: i64,
    /// Compiled, until something changes.
    policies: Option<Arc<Vec<Asking>>>,
    worker: Worker<MemoryStore, FakeRegistry>,
    outlooks: watch::Receiver<Outlooks>,
    pub(super) next: Option<Timestamp>,
}

impl House {
    /// With key A, an interval of an hour and nothing that runs.
    pub(super) fn new() -> Self {
        let mut keys = Keyring::new("zastava-system");
        keys.name(&BTreeSet::from([source()]));
        let (store, registry, metrics) = <(MemoryStore, FakeRegistry, PostureMetrics)>::default();
        let (worker, outlooks) = Worker::new(store.clone(), caps(), registry.clone(), metrics.clone());
        let spec = json!({
            "runtime": {"posture": {"interval": "1h"}},
            "admission": {"signatures": [{"name": "team", "authorities": [
                {"key": {"configMapRef": {"name": "keys", "key": "team.pub"}}}]}]},
        });
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let (pods, spec, policies, next) = (Vec::new(), Some(spec), None, None);
        let mut house =
            Self { store, registry, metrics, now, pods, keys, spec, generation: 1, policies, worker, outlooks, next };
        house.key(KEY_A);
        house
    }

    /// Another replica takes over: it knows nothing but what is stored.
    pub(super) fn another_leads(&mut self) {
        self.store = self.store.another();
        self.store.catch_up();
        let (worker, outlooks) = Worker::new(self.store.clone(), caps(), self.registry.clone(), self.metrics.clone());
        (self.worker, self.outlooks) = (worker, outlooks);
    }

    /// The ConfigMap holds this key now.
    pub(super) fn key(&mut self, pem: &str) {
        self.policies = None;
        let data = BTreeMap::from([("team.pub".to_owned(), pem.to_owned())]);
        let map = k8s_openapi::api::core::v1::ConfigMap { data: Some(data), ..Default::default() };
        self.keys.learn(&source(), Content::of_config_map(Some(map)));
    }

    /// The ConfigMap is deleted.
    pub(super) fn no_key(&mut self) {
        self.policies = None;
        self.keys.learn(&source(), Content::Absent);
    }

    /// Somebody edits the policy.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        self.policies = None;
        self.generation += 1;
        edit(self.spec.as_mut().unwrap());
    }

    pub(super) fn delete_policy(&mut self) {
        self.policies = None;
        self.spec = None;
    }

    /// Signs a digest under the key that the policy has now.
    pub(super) fn sign(&self, digest: char) {
        self.registry.0.lock().unwrap().signed.insert((sha(digest), self.keys_hash()));
    }

    /// Takes all signatures of a digest away.
    pub(super) fn unsign(&self, digest: char) {
        self.registry.0.lock().unwrap().signed.retain(|(signed, _)| *signed != sha(digest));
    }

    /// A Deployment's pod with one container `main` that runs this digest.
    pub(super) fn run(&mut self, deployment: &str, n: usize, digest: char) {
        let image = PodContainer {
            name: "main".to_owned(),
            image: format!("registry.example/{deployment}:1"),
            image_id: Some(format!("registry.example/{deployment}@{}", sha(digest))),
        };
        self.pod(deployment, n, vec![image], Vec::new());
    }

    pub(super) fn pod(&mut self, name: &str, n: usize, containers: Vec<PodContainer>, volumes: Vec<(String, String)>) {
        self.pods.push(Arc::new(Pod {
            uid: format!("{name}-{n}"),
            namespace: "shop".to_owned(),
            name: format!("{name}-{n}"),
            node: Some("n1".to_owned()),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            workload: WorkloadRef { kind: "Deployment".to_owned(), name: name.to_owned() },
            containers,
            image_volumes: volumes,
            finished: false,
        }));
    }

    pub(super) fn stop(&mut self, name: &str) {
        self.pods.retain(|pod| pod.name != name);
    }

    /// Looks until nothing is asked any more.
    pub(super) async fn settle(&mut self) {
        loop {
            self.look().await;
            if self.worker.is_idle() {
                return;
            }
            self.answered().await;
        }
    }

    /// Looks once, and waits for nothing.
    pub(super) async fn look(&mut self) {
        let world = self.world();
        self.next = self.worker.look(&world, self.now).await;
    }

    /// Waits for a check to end.
    pub(super) async fn answered(&mut self) {
        let now = self.now;
        self.worker.answered(|| now).await;
    }

    /// Time passes; the loop would look whenever it said that it would.
    pub(super) async fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next.filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.settle().await;
        }
        self.now = end;
        self.settle().await;
    }

    /// Findings as `state workload container subject (count)`.
    pub(super) fn told(&self) -> Vec<String> {
        self.store.stored().iter().map(tell).collect()
    }

    /// Why the only finding is resolved.
    pub(super) fn resolution(&self) -> (ResolutionReason, String) {
        let [finding] = &self.store.stored()[..] else { panic!("one finding: {:?}", self.told()) };
        let resolved = finding.status.clone().unwrap().resolved.unwrap();
        (resolved.reason, resolved.message)
    }

    pub(super) fn outlook(&self) -> Outlook {
        self.outlooks.borrow().get("uid").cloned().unwrap_or_default()
    }

    fn world(&mut self) -> World {
        let labels = |name: &str| (name.to_owned(), BTreeMap::new());
        let asking = || Arc::new(self.asking().into_iter().collect());
        let policies = self.policies.clone().unwrap_or_else(asking);
        self.policies = Some(policies.clone());
        World {
            policies,
            pods: self.pods.clone(),
            rules: Arc::new(RuleSet {
                namespaces: BTreeMap::from([labels("shop"), labels("bank")]),
                ..RuleSet::default()
            }),
            platforms: Platforms::Any,
        }
    }

    fn asking(&self) -> Option<Asking> {
        let policy: ZastavaPolicy = serde_json::from_value(json!({
            "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
            "metadata": {"name": POLICY, "uid": "uid", "generation": self.generation}, "spec": self.spec.as_ref()?,
        }))
        .unwrap();
        Asking::of(&policy, &self.keys)
    }

    fn keys_hash(&self) -> Sha256Digest {
        match &self.asking().unwrap().policy.requirements {
            Requirements::Proof(requirements) => requirements.policy().keys().clone(),
            other => panic!("{other:?}"),
        }
    }
}

/// `sha256:` and 64 times this digit.
pub(super) fn sha(digit: char) -> Sha256Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

fn source() -> Source {
    Source::ConfigMap("keys".to_owned())
}

fn caps() -> Caps {
    Caps::new(|policies| if policies == [POLICY] { 3 } else { 0 })
}

fn tell(finding: &RuntimeFinding) -> String {
    let status = finding.status.clone().unwrap_or_default();
    let state = status.resolved.map_or("open".to_owned(), |resolved| resolved.reason.to_string());
    let spec = &finding.spec;
    format!("{state} {} {} {} ({})", spec.workload.name, spec.container, spec.subject, status.count)
}
