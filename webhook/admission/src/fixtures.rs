//! What the router's tests stand on: an engine and an API server that do as they are told, behind the real routes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    core::PartialObjectMeta,
    runtime::{reflector, watcher::Event},
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::Instant};
use tower::ServiceExt;
use zastava_core::backend::{Cause, Unavailable, metrics::BackendMetrics, question::Ask, verdicts::Verdicts};
use zastava_crds::{
    digest::{DigestKind, ImageDigest, Sha256Digest},
    policy::ZastavaPolicy,
    wire::verdict::{ImageVerdict, VerdictWord},
};
use zastava_verify::{
    answer::{Unknown, UnknownCause},
    image::{ImageReference, Platforms},
    keychain::Keychain,
    requirement::{Inline, PolicyRequirements},
    verdict::{Refusal, RefusalReason, UnknownVerdict},
};

use crate::{
    cluster::{Cluster, ClusterError},
    credentials::pull::Credentials,
    engine::{Engine, Examined, Pin, Satisfied},
    metrics::Metrics,
    policies::{
        policy::{Labels, Standing},
        snapshot::{Snapshot, World},
    },
    report::queue::{self, Outbox},
    server::{app::App, endpoint::router},
    warm::Recent,
};

pub const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEldVqmVG2hV1o05aB8gTq1ZBiVXon\nIcqWkmgA61uUt8caqng8Cx6vLXfV1kM5jc0konvMpCO+zz5T7ahRqiih2A==\n-----END PUBLIC KEY-----";

/// A digest made of one hex digit.
pub fn digest(digit: char) -> Sha256Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

/// A registry's content as an engine tells it.
#[derive(Default, Debug)]
pub struct FakeEngine {
    pub tags: Mutex<HashMap<String, Sha256Digest>>,
    pub signed: Mutex<HashSet<Sha256Digest>>,
    pub down: Mutex<Option<UnknownCause>>,
    /// Digests that can be resolved and not verified.
    pub unreadable: Mutex<HashSet<Sha256Digest>>,
    pub asked: AtomicUsize,
}

impl FakeEngine {
    fn resolve(&self, image: &ImageReference) -> Result<Sha256Digest, Unknown> {
        if let Some(digest) = image.digest() {
            return Ok(digest.clone());
        }
        if let Some(cause) = *self.down.lock().unwrap() {
            return Err(Unknown::new(cause, "the registry does not answer"));
        }
        let name = format!("{}:{}", image.canonical(), image.tag().unwrap_or("latest"));
        let found = self.tags.lock().unwrap().get(&name).cloned();
        found.ok_or_else(|| Unknown::new(UnknownCause::ImageNotFound, format!("no image {name}")))
    }
}

fn unknown(unknown: Unknown) -> Examined {
    Examined::Unknown(UnknownVerdict {
        digest: None,
        cause: unknown.cause,
        message: unknown.message,
        next_step: unknown.cause.next_step().to_owned(),
        retry_after: None,
    })
}

impl Engine for Arc<FakeEngine> {
    async fn pin(&self, image: &ImageReference, _: &Keychain, _: Instant) -> Result<Pin, Unknown> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Pin::for_tests(&image.pinned(&self.resolve(image)?)))
    }

    async fn examine(
        &self,
        image: &ImageReference,
        requirements: Option<&Arc<PolicyRequirements>>,
        _: &Platforms,
        _: &Keychain,
        _: Instant,
    ) -> Examined {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let digest = match self.resolve(image) {
            Ok(digest) => digest,
            Err(error) => return unknown(error),
        };
        if let (Some(cause), true) = (*self.down.lock().unwrap(), requirements.is_some()) {
            return unknown(Unknown::new(cause, "the registry does not answer"));
        }
        let signed = self.signed.lock().unwrap().contains(&digest);
        let unreadable = self.unreadable.lock().unwrap().contains(&digest);
        let digest = ImageDigest { kind: DigestKind::Manifest, digest };
        if unreadable {
            let cause = UnknownCause::Unreachable;
            return Examined::Unknown(UnknownVerdict {
                digest: Some(digest),
                cause,
                message: "its signatures can't be read".to_owned(),
                next_step: cause.next_step().to_owned(),
                retry_after: None,
            });
        }
        if requirements.is_none() || signed {
            return Examined::Satisfied(Satisfied::for_tests(digest));
        }
        Examined::Refused(Refusal {
            digest: Some(digest),
            requirement: "signatures[release]".to_owned(),
            reason: RefusalReason::NoSignature,
            found: "no signature".to_owned(),
            next_step: "sign the image".to_owned(),
        })
    }
}

/// The API server's word on namespaces and pull secrets.
#[derive(Default, Debug)]
pub struct FakeCluster {
    pub namespaces: Mutex<HashMap<String, Labels>>,
    pub down: AtomicBool,
    pub asked: AtomicUsize,
}

impl FakeCluster {
    fn answer<T>(&self, value: T) -> Result<T, ClusterError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(ClusterError::Unavailable {
                what: "namespace".to_owned(),
                why: "connection refused".to_owned(),
            });
        }
        Ok(value)
    }
}

impl Cluster for Arc<FakeCluster> {
    async fn namespace_labels(&self, name: &str) -> Result<Option<Labels>, ClusterError> {
        self.answer(self.namespaces.lock().unwrap().get(name).cloned())
    }

    async fn pull_secrets_of(&self, _: &str, _: &str) -> Result<Option<Vec<String>>, ClusterError> {
        self.answer(None)
    }

    async fn pull_secret(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        self.answer(None)
    }
}

/// What the backend says, by the hex digit of the image's digest.
#[derive(Clone, Default)]
pub struct FakeScanner(Arc<Scanner>);

#[derive(Default)]
struct Scanner {
    said: Mutex<HashMap<Sha256Digest, ImageVerdict>>,
    down: Mutex<Option<Cause>>,
    hangs: AtomicBool,
    batches: Mutex<Vec<usize>>,
}

impl FakeScanner {
    pub fn says(&self, image: char, verdict: VerdictWord) {
        let said = ImageVerdict {
            digest: digest(image),
            verdict,
            reason: Some(format!("because {verdict}")),
            link: Some(format!("https://s.example/{image}")),
            policy_revision: "7".to_owned(),
            issued_at: jiff::Timestamp::now(),
            ttl_seconds: None,
        };
        self.0.said.lock().unwrap().insert(digest(image), said);
    }

    pub fn is(&self, down: Option<Cause>) {
        *self.0.down.lock().unwrap() = down;
    }

    pub fn hangs(&self) {
        self.0.hangs.store(true, Ordering::SeqCst);
    }

    /// How many images each question was about.
    pub fn batches(&self) -> Vec<usize> {
        self.0.batches.lock().unwrap().clone()
    }
}

impl Ask for FakeScanner {
    fn ask<'a>(&'a self, images: &'a [ImageDigest]) -> BoxFuture<'a, Result<Vec<ImageVerdict>, Unavailable>> {
        Box::pin(async move {
            self.0.batches.lock().unwrap().push(images.len());
            if self.0.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if let Some(cause) = *self.0.down.lock().unwrap() {
                return Err(Unavailable { cause, detail: "503: down".to_owned(), after: None });
            }
            let said = self.0.said.lock().unwrap();
            Ok(images.iter().filter_map(|image| said.get(&image.digest).cloned()).collect())
        })
    }

    fn place(&self) -> String {
        "https://s.example/".to_owned()
    }
}

/// The whole of the webhook without sockets: three images (one signed, one not, one that is nowhere), one policy.
pub struct Bench {
    pub engine: Arc<FakeEngine>,
    pub cluster: Arc<FakeCluster>,
    pub scanner: FakeScanner,
    verdicts: Verdicts,
    pub world: Arc<World>,
    pub registry: Registry,
    pub outbox: Outbox,
    pub recent: Recent,
    pub router: Router,
    seen: reflector::store::Writer<PartialObjectMeta<Namespace>>,
    policies: HashMap<String, Standing>,
}

/// The namespace whose pull secrets are read.
pub const TENANT: &str = "tenant";
/// The signed image, by tag and pinned.
pub const SIGNED: &str = "registry.example/prod/app:signed";
/// The unsigned image.
pub const UNSIGNED: &str = "registry.example/prod/app:unsigned";
/// An image that the registry does not know.
pub const MISSING: &str = "registry.example/prod/app:missing";

/// A reference pinned to a digest of one hex digit.
pub fn pinned(reference: &str, digit: char) -> String {
    format!("{reference}@{}", digest(digit))
}

impl Bench {
    /// With policies of these specs, by UID.
    pub fn new(policies: &[(&str, Value)]) -> Self {
        Self::with_room_for(64, policies)
    }

    /// The same, where at most so many requests are worked on at once.
    pub fn with_room_for(requests: usize, policies: &[(&str, Value)]) -> Self {
        Self::of(requests, true, policies)
    }

    /// The same, where no backend is configured.
    pub fn without_backend(policies: &[(&str, Value)]) -> Self {
        Self::of(64, false, policies)
    }

    fn of(requests: usize, backend: bool, policies: &[(&str, Value)]) -> Self {
        let engine = Arc::new(FakeEngine::default());
        engine.tags.lock().unwrap().extend([(SIGNED.to_owned(), digest('a')), (UNSIGNED.to_owned(), digest('b'))]);
        engine.signed.lock().unwrap().insert(digest('a'));
        let cluster = Arc::new(FakeCluster::default());
        let (store, seen) = reflector::store();
        let world = Arc::new(World::new(store));
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let recent = Recent::default();
        let (reporter, outbox) = queue::queue(metrics.clone());
        let scanner = FakeScanner::default();
        let asked = Verdicts::new(scanner.clone(), BackendMetrics::new(&mut registry));
        let verdicts = if backend { asked } else { Verdicts::not_configured() };
        let app = App {
            engine: Arc::clone(&engine),
            cluster: Arc::clone(&cluster),
            verdicts: verdicts.clone(),
            world: Arc::clone(&world),
            credentials: Arc::new(Credentials::new([TENANT.to_owned()])),
            exempt: BTreeSet::from(["kube-system".to_owned()]),
            recent: recent.clone(),
            reporter,
            metrics,
            work: Semaphore::new(requests),
        };
        let router = router(Arc::new(app));
        let mut bench = Self {
            engine,
            cluster,
            scanner,
            verdicts,
            world,
            registry,
            outbox,
            recent,
            router,
            seen,
            policies: HashMap::new(),
        };
        bench.namespace_seen("default", &[]);
        for (uid, spec) in policies {
            bench.policy(uid, spec);
        }
        bench
    }

    /// The backend's words, as the routes have them.
    pub fn verdicts(&self) -> Verdicts {
        self.verdicts.clone()
    }

    /// Puts a policy in place.
    pub fn policy(&mut self, uid: &str, spec: &Value) {
        let policy: ZastavaPolicy = serde_json::from_value(json!({
            "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
            "metadata": {"name": format!("policy-{uid}"), "uid": uid, "generation": 1},
            "spec": spec,
        }))
        .unwrap();
        self.policies.insert(uid.to_owned(), Standing::compile(&policy, &Inline));
        self.world.publish(Snapshot {
            policies: self.policies.clone(),
            deleted: HashSet::from(["gone".to_owned()]),
            platforms: Platforms::Any,
        });
    }

    /// A namespace that both the cache and the API server know.
    pub fn namespace_seen(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels = self.namespace(name, labels);
        let mut namespace = PartialObjectMeta::<Namespace>::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace.metadata.labels = Some(labels);
        self.seen.apply_watcher_event(&Event::Apply(namespace));
    }

    /// A namespace that the API server knows.
    pub fn namespace(&self, name: &str, labels: &[(&str, &str)]) -> Labels {
        let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.cluster.namespaces.lock().unwrap().insert(name.to_owned(), labels.clone());
        labels
    }

    /// Posts a body, as the API server would.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let request = Request::post(format!("{path}?timeout=10s")).body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
    }

    /// Posts a review and gives its response.
    pub async fn review(&self, path: &str, review: &Value) -> Answer {
        let (status, body) = self.post(path, serde_json::to_vec(review).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let review: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(review["response"]["uid"], "review-1");
        Answer(review["response"].clone())
    }

    /// Asks the validating entry of the policy `uid` about the creation of an object.
    pub async fn create(&self, uid: &str, object: &Value) -> Answer {
        self.review(&format!("/validate/{uid}"), &review("CREATE", object, None)).await
    }

    /// Records that are on their way to the intake.
    pub fn records(&mut self) -> Vec<zastava_crds::wire::report::AdmissionRecord> {
        self.outbox.waiting()
    }

    /// A metric's line as Prometheus would read it.
    pub fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|l| l == line)
    }
}

/// The `response` of a review.
#[derive(Debug)]
pub struct Answer(pub Value);

impl Answer {
    pub fn allowed(&self) -> bool {
        self.0["allowed"].as_bool().unwrap()
    }

    pub fn message(&self) -> &str {
        self.0["status"]["message"].as_str().unwrap_or_default()
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.0["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub fn audit(&self, key: &str) -> &str {
        self.0["auditAnnotations"][key].as_str().unwrap_or_default()
    }

    /// The operations of the patch.
    pub fn patch(&self) -> Value {
        let Some(bytes) = self.0["patch"].as_array() else { return json!([]) };
        let bytes: Vec<u8> = bytes.iter().map(|b| u8::try_from(b.as_u64().unwrap()).unwrap()).collect();
        assert_eq!(self.0["patchType"], "JSONPatch");
        serde_json::from_slice(&bytes).unwrap()
    }
}

/// A policy that asks for one signature.
pub fn signed(mode: &str) -> Value {
    json!({"mode": mode, "admission": {"signatures": [{"name": "release", "authorities": [{"key": {"pem": KEY}}]}]}})
}

/// A pod with one container.
pub fn pod(image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "app", "image": image}]}})
}

/// An object of a kind, around the pod `spec`.
pub fn of_kind(kind: &str, spec: &Value) -> Value {
    let (version, spec) = match kind {
        "Pod" => ("v1", spec.clone()),
        "ReplicationController" => ("v1", json!({"template": {"spec": spec}})),
        "Job" => ("batch/v1", json!({"template": {"spec": spec}})),
        "CronJob" => ("batch/v1", json!({"jobTemplate": {"spec": {"template": {"spec": spec}}}})),
        _ => ("apps/v1", json!({"template": {"spec": spec}})),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "w", "namespace": "default"}, "spec": spec})
}

/// An AdmissionReview as the API server sends it.
pub fn review(operation: &str, object: &Value, old: Option<&Value>) -> Value {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = object["kind"].as_str().unwrap();
    let resource = format!("{}s", kind.to_lowercase());
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "review-1",
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": group, "version": version, "resource": resource},
        "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
        "operation": operation, "userInfo": {"username": "someone"},
        "object": object, "oldObject": old, "dryRun": false,
    }})
}
