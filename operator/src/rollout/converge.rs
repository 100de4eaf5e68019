//! The loop: whenever something that matters has changed, one pass from what is asked for to what is there.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    apply::Applier,
    build::{Owners, build},
    installation::Installation,
    live::{Live, Object, Snapshot},
    replicas::Replicas,
    report::{Deployed, Fault, Report},
    trust::{Circumstances, Keeper, Since, configured},
    validate::plan,
};
use crate::{
    backoff::Backoff,
    certificates::{Issued, WEBHOOK_PROPAGATION},
    leader::Leadership,
    metrics::Metrics,
    policy::Policies,
};

/// Changes come in bursts; one pass serves a burst.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A pass without a cause: for what only time changes, such as a certificate's age.
const IDLE: Duration = Duration::from_mins(10);

/// What the loop works with.
pub struct Converge {
    /// To write with.
    pub client: Client,
    /// Settings.
    pub installation: Arc<Installation>,
    /// Whether this replica may write.
    pub leadership: Leadership,
    /// All policies.
    pub policies: Policies,
    /// The objects.
    pub live: Live,
    /// The webhook's replicas.
    pub replicas: Replicas,
    /// The leaf that this process's intake serves.
    pub serving: watch::Receiver<Option<Issued>>,
    /// Counters.
    pub metrics: Metrics,
}

/// Starts the loop; it ends with `token`. The receiver tells the outcome of the last pass.
pub fn start(converge: Converge, token: CancellationToken) -> (watch::Receiver<Report>, JoinHandle<()>) {
    let (tx, rx) = watch::channel(Report::default());
    let task = tokio::spawn(async move {
        token.run_until_cancelled(run(converge, tx)).await;
    });
    (rx, task)
}

async fn run(mut converge: Converge, report: watch::Sender<Report>) {
    converge.policies.synced().await;
    let applier = Applier::new(converge.client.clone(), converge.leadership.clone(), converge.metrics.clone());
    let mut pass = Pass { applier, keeper: Keeper::default(), unconfigured: Since::default() };
    let mut backoff = Backoff::default();
    let (mut term, mut wait) = (0, Duration::ZERO);
    loop {
        tokio::select! {
            () = converge.live.changed() => {}
            () = converge.replicas.changed() => {}
            () = converge.policies.changed() => {}
            now = converge.leadership.next_term(term) => {
                term = now;
                backoff.reset();
            }
            () = tokio::time::sleep(wait) => {}
        }
        tokio::time::sleep(DEBOUNCE).await;
        let snapshot = converge.live.snapshot();
        if converge.leadership.claim().is_err() || !snapshot.is_complete() {
            wait = IDLE;
            continue;
        }
        let (now, again) = Box::pin(pass.run(&converge, &snapshot)).await;
        let faulty = !now.faults.is_empty();
        converge.metrics.passed("rollout", if faulty { "fault" } else { "ok" });
        wait = if faulty { backoff.wait() } else { again.unwrap_or(IDLE) };
        if !faulty {
            backoff.reset();
        }
        report.send_if_modified(|old| {
            let changed = *old != now;
            *old = now;
            changed
        });
    }
}

struct Pass {
    applier: Applier,
    keeper: Keeper,
    /// For how long no webhook configuration has been live.
    unconfigured: Since,
}

impl Pass {
    async fn run(&mut self, converge: &Converge, snapshot: &Snapshot) -> (Report, Option<Duration>) {
        let installation = &converge.installation;
        let Some(owners) = owners(snapshot) else {
            return (self.withdraw(installation, snapshot).await, None);
        };
        let now = Timestamp::now();
        let plan = plan(&converge.policies.all(), installation, now);
        let replicas = converge.replicas.now();
        let circumstances = Circumstances {
            installation,
            snapshot,
            replicas: &replicas,
            owners: &owners,
            serving: converge.serving.borrow().clone(),
            now,
        };
        let outcome = match self.keeper.keep(&circumstances, &mut self.applier, &converge.metrics).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(%error, category = error.category(), "certificates were not kept");
                let faults = vec![Fault { object: Object::CaSecret, message: error.to_string() }];
                return (Report { deployed: None, faults }, None);
            }
        };

        let live = !configured(snapshot).is_empty();
        let gone_for = self.unconfigured.held((!live).then_some(""));
        // API servers that have not yet seen the configuration go still ask: their webhook stays a little longer.
        let linger = snapshot.get(Object::WebhookDeployment).is_some()
            && gone_for.is_none_or(|gone| gone < 2 * WEBHOOK_PROPAGATION);
        let resources = build(installation, &plan, &owners, &outcome.trust, live || outcome.serving > 0, linger);
        let lingering = (linger && plan.gates.is_empty()).then_some(WEBHOOK_PROPAGATION);
        let ending = plan.exemption_ends.map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default());
        let again = [outcome.again, lingering, ending].into_iter().flatten().min();
        let report = match Box::pin(self.applier.rollout(resources, installation, snapshot)).await {
            Ok(applied) => {
                Report { deployed: Some(Deployed::new(&applied, &plan, outcome.serving)), faults: Vec::new() }
            }
            Err(faults) => Report { deployed: None, faults },
        };
        (report, again)
    }

    /// The release is being removed: the API server must not go on asking a webhook that will be gone, and nothing is
    /// made anew. Garbage collection does the rest.
    async fn withdraw(&mut self, installation: &Installation, snapshot: &Snapshot) -> Report {
        let mut faults = Vec::new();
        for object in [Object::Validating, Object::Mutating, Object::GuardBinding, Object::Guard] {
            if let Err(error) = self.applier.remove(object, installation, snapshot).await {
                tracing::warn!(object = object.describe(), %error, category = error.category(), "not removed");
                faults.push(Fault { object, message: error.to_string() });
            }
        }
        tracing::info!("an owner of what the operator makes is gone: the release is being removed");
        Report { deployed: None, faults }
    }
}

/// The owners, while both are there to stay.
fn owners(snapshot: &Snapshot) -> Option<Owners> {
    let owner = |object: Object, api_version: &str, kind: &str| {
        let metadata = &snapshot.get(object)?.metadata;
        if metadata.deletion_timestamp.is_some() {
            return None;
        }
        Some(OwnerReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: object.name().to_owned(),
            uid: metadata.uid.clone()?,
            ..OwnerReference::default()
        })
    };
    Some(Owners {
        cluster: owner(Object::ClusterOwner, "rbac.authorization.k8s.io/v1", "ClusterRole")?,
        release: owner(Object::ReleaseOwner, "apps/v1", "Deployment")?,
    })
}
