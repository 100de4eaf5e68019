//! The loop that tells the truth about policies: whenever something that matters has changed, at most one write a
//! policy, and none while nothing differs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::events::{Recorder, Reporter},
};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use zastava_crds::{
    canonical,
    policy::{ZastavaPolicy, ZastavaPolicyStatus},
    wire::sync::NODE_SILENT_SECONDS,
};

use super::{
    Policies, Scope,
    coverage::{Fleet, GRACE, Survey},
    events::events,
    scope::Names,
    status::{COUNTERS_EVERY, Change, Scene, change, status},
    tally::{Tally, tally},
};
use crate::{
    FIELD_MANAGER, STATUS_MANAGER,
    backoff::Backoffs,
    finding::store::{ApiStore, FindingStore as _},
    leader::Leadership,
    metrics::Metrics,
    nodes::{ClusterNodes, NodeRegistry, RuleBook},
    pods::PodIndex,
    posture::Outlooks,
    rollout::{Installation, Live, Object, Report},
};

/// Changes come in bursts.
const SOON: Duration = Duration::from_millis(200);
/// Each word of an observer is a change.
const SOMETIME: Duration = Duration::from_millis(500);
/// Pods and findings change all the time, and only count.
const LATER: Duration = Duration::from_secs(2);
/// A look without a cause.
const IDLE: Duration = Duration::from_mins(10);
/// For this long a write of ours may not yet have come back by the watch.
const ECHO: Duration = Duration::from_secs(5);

/// What the loop works with.
pub struct Writer {
    /// To write with.
    pub client: Client,
    /// Name of this pod, for events.
    pub instance: String,
    /// Settings.
    pub installation: Arc<Installation>,
    /// Whether this replica may write.
    pub leadership: Leadership,
    /// All policies.
    pub policies: Policies,
    /// Outcome of the last rollout.
    pub report: watch::Receiver<Report>,
    /// The objects.
    pub live: Live,
    /// The rules that observers should hold.
    pub rules: RuleBook,
    /// What observers say.
    pub nodes: NodeRegistry,
    /// The cluster's nodes.
    pub cluster: ClusterNodes,
    /// All pods.
    pub pods: PodIndex,
    /// All findings.
    pub findings: ApiStore,
    /// How policies stand with what runs.
    pub posture: watch::Receiver<Outlooks>,
    /// Counters.
    pub metrics: Metrics,
}

impl Writer {
    /// Tells until `token` is cancelled.
    pub async fn run(self, token: CancellationToken) {
        token.run_until_cancelled(self.follow()).await;
    }

    async fn follow(mut self) {
        self.policies.synced().await;
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(self.instance.clone()) };
        let mut told = Told::new(Recorder::new(self.client.clone(), reporter));
        let (mut pods, mut findings, mut nodes) = (self.pods.changes(), self.findings.changes(), self.nodes.changes());
        let mut term = 0;
        let mut due = Instant::now();
        loop {
            let delay = tokio::select! {
                () = tokio::time::sleep_until(due) => None,
                () = self.policies.changed() => Some(SOON),
                () = changed(&mut self.report) => Some(SOON),
                () = changed(&mut self.posture) => Some(SOMETIME),
                () = changed(&mut nodes) => Some(SOMETIME),
                () = self.cluster.changed() => Some(SOON),
                () = changed(&mut pods) => Some(LATER),
                () = changed(&mut findings) => Some(LATER),
                now = self.leadership.next_term(term) => {
                    term = now;
                    Some(SOON)
                }
            };
            if let Some(delay) = delay {
                due = due.min(Instant::now() + delay);
                continue;
            }
            due = Instant::now() + self.look(&mut told).await.unwrap_or(IDLE).max(SOON);
        }
    }

    /// One look at everything; says when the next one is due.
    async fn look(&self, told: &mut Told) -> Option<Duration> {
        let rules = self.rules.current()?;
        let cluster = self.cluster.now()?;
        let report = self.report.borrow().clone();
        // Before the first pass, and while the release is being removed, there is nothing to tell.
        let told_nothing = report == Report::default();
        if self.leadership.claim().is_err() || told_nothing || !self.pods.synced() {
            return None;
        }
        let (now, views, pods) = (Timestamp::now(), self.nodes.all(), self.pods.live());
        let deployed =
            self.live.snapshot().get(Object::ObserverDaemonSet).and_then(|o| o.metadata.creation_timestamp.clone());
        let fleet = Fleet {
            nodes: &cluster,
            views: &views,
            settled: self.nodes.settled(),
            deployed: deployed.map(|time| time.0),
            now,
        };
        // Before the API server asks it, the webhook lacks nothing.
        let asked = report.deployed.as_ref().filter(|deployed| !deployed.gates.is_empty());
        let replicas = i64::from(self.installation.webhook.replicas);
        let webhook_overdue = told.webhook_short(asked.is_some_and(|deployed| i64::from(deployed.serving) < replicas));
        let tallies = tally(&self.findings.all());
        let outlooks = self.posture.borrow().clone();
        let none = Tally::default();
        let mut names = Names::default();
        let mut next = views.values().filter(|view| !view.silent).map(|view| silence().saturating_sub(view.age)).min();
        let policies = self.policies.all();
        told.forget(&policies);
        for policy in &policies {
            if policy.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let policy = &told.last(policy);
            let scope = Scope::new(&policy.spec.match_);
            let matched = scope.map(|s| s.matched(&pods, &rules.namespaces, &mut names)).unwrap_or_default();
            let uid = policy.uid().unwrap_or_default();
            let hash = canonical::hash(&policy.spec).unwrap_or_default();
            let kills = policy.spec.kills();
            let survey = Survey::of(&matched, &fleet, kills, |held| self.rules.holds(held, &uid, &hash));
            let waits = told.missing(&uid, &survey);
            let tally = tallies.get(&policy.name_any()).unwrap_or(&none);
            let status = status(&Scene {
                policy,
                installation: &self.installation,
                report: &report,
                survey: &survey,
                overdue: &|node| told.overdue(&uid, node),
                webhook_overdue,
                matched: tally.matched(&matched),
                findings: tally.totals.clone(),
                posture: outlooks.get(&uid),
                now,
            });
            let again = self.tell(policy, status, told, now).await;
            next = [next, waits, again].into_iter().flatten().min();
        }
        let short =
            told.webhook_short.map(|since| GRACE.saturating_sub(since.elapsed())).filter(|wait| !wait.is_zero());
        let settling = (!self.nodes.settled()).then_some(LATER);
        [next, short, settling].into_iter().flatten().min()
    }

    /// Writes one status if it differs; says when to come back for it.
    async fn tell(
        &self,
        policy: &ZastavaPolicy,
        mut new: ZastavaPolicyStatus,
        told: &mut Told,
        now: Timestamp,
    ) -> Option<Duration> {
        let (uid, old) = (policy.uid().unwrap_or_default(), policy.status.as_ref());
        match change(old, &new) {
            Change::None => return None,
            Change::Counters => {
                let counted = old.and_then(|old| old.counted_at.as_ref()).map(|at| at.0);
                let since = counted.map(|at| now.duration_since(at).unsigned_abs());
                if let Some(wait) = since.and_then(|since| COUNTERS_EVERY.checked_sub(since)).filter(|w| !w.is_zero()) {
                    return Some(wait);
                }
            }
            Change::Conditions => {}
        }
        new.counted_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        if !self.write(policy, &new).await {
            return Some(told.failures.wait(uid));
        }
        told.failures.reset(&uid);
        for event in events(old, &new) {
            if let Err(error) = told.recorder.publish(&event, &policy.object_ref(&())).await {
                tracing::warn!(policy = policy.name_any(), %error, "an event was not published");
            }
        }
        told.written.insert(uid, (new, Instant::now()));
        None
    }

    async fn write(&self, policy: &ZastavaPolicy, status: &ZastavaPolicyStatus) -> bool {
        let name = policy.name_any();
        let Ok(claim) = self.leadership.claim() else { return false };
        // With its UID: a policy that was deleted and made anew gets no status of the old one.
        let patch = Patch::Apply(json!({
            "apiVersion": ZastavaPolicy::api_version(&()), "kind": ZastavaPolicy::kind(&()),
            "metadata": {"name": name, "uid": policy.uid()}, "status": status,
        }));
        let api: Api<ZastavaPolicy> = Api::all(self.client.clone());
        let params = PatchParams::apply(STATUS_MANAGER).force();
        let result = match tokio::time::timeout_at(claim.deadline(), api.patch_status(&name, &params, &patch)).await {
            Ok(Ok(_)) => "applied",
            // It is gone, or another one of its name is there.
            Ok(Err(kube::Error::Api(answer))) if answer.is_not_found() || answer.is_conflict() => "gone",
            Ok(Err(error)) => {
                tracing::warn!(policy = name, %error, "status was not written");
                "api"
            }
            Err(_) => "timeout",
        };
        self.metrics.wrote("policy_status", result);
        matches!(result, "applied" | "gone")
    }
}

async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn silence() -> Duration {
    Duration::from_secs(NODE_SILENT_SECONDS)
}

/// What one look leaves for the next.
struct Told {
    recorder: Recorder,
    /// Since when a node is missing for a policy.
    missing: HashMap<String, HashMap<String, Instant>>,
    webhook_short: Option<Instant>,
    written: HashMap<String, (ZastavaPolicyStatus, Instant)>,
    failures: Backoffs<String>,
}

impl Told {
    fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            missing: HashMap::new(),
            webhook_short: None,
            written: HashMap::new(),
            failures: Backoffs::default(),
        }
    }

    /// The policy with the status that it has: until the watch has brought our last write back, that one.
    fn last(&self, policy: &Arc<ZastavaPolicy>) -> Arc<ZastavaPolicy> {
        let written = policy.metadata.uid.as_ref().and_then(|uid| self.written.get(uid));
        match written.filter(|(_, at)| at.elapsed() < ECHO) {
            Some((status, _)) => Arc::new(ZastavaPolicy { status: Some(status.clone()), ..(**policy).clone() }),
            None => policy.clone(),
        }
    }

    /// Notes which nodes are missing now; says when the first of them will be overdue.
    fn missing(&mut self, uid: &str, survey: &Survey) -> Option<Duration> {
        let mut before = self.missing.remove(uid).unwrap_or_default();
        let now = Instant::now();
        let missing: HashMap<_, _> =
            survey.missing().map(|(node, ..)| (node.to_owned(), before.remove(node).unwrap_or(now))).collect();
        let waits = missing.values().map(|since| GRACE.saturating_sub(since.elapsed())).filter(|wait| !wait.is_zero());
        let first = waits.min();
        if !missing.is_empty() {
            self.missing.insert(uid.to_owned(), missing);
        }
        first
    }

    fn overdue(&self, uid: &str, node: &str) -> bool {
        self.missing.get(uid).and_then(|nodes| nodes.get(node)).is_some_and(|since| since.elapsed() >= GRACE)
    }

    fn webhook_short(&mut self, short: bool) -> bool {
        self.webhook_short = short.then(|| self.webhook_short.unwrap_or_else(Instant::now));
        self.webhook_short.is_some_and(|since| since.elapsed() >= GRACE)
    }

    fn forget(&mut self, policies: &[Arc<ZastavaPolicy>]) {
        let there: HashSet<String> = policies.iter().filter_map(|policy| policy.uid()).collect();
        self.missing.retain(|uid, _| there.contains(uid));
        self.written.retain(|uid, _| there.contains(uid));
    }
}
