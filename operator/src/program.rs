//! The program: every part started, each told when to end, the lease given back last.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use zastava_core::{
    backend::{client::Backend, metrics::BackendMetrics, verdicts::Verdicts},
    health::{self, Health},
    settings::operator::OperatorSettings,
    shutdown,
    tls::ServerTls,
};
use zastava_verify::{
    registry::{Registry as Registries, RegistrySettings},
    verifier::{Verifier, VerifierSettings},
};

use crate::{
    arguments::Arguments,
    finding::{self, FindingMetrics},
    intake::{self, IntakeMetrics, ServiceAccounts},
    leader::{self, ApiLease, Holder, Leadership},
    metrics::Metrics,
    networks,
    nodes::{ClusterNodes, NodeRegistry, RuleBook},
    pods,
    policy::{Policies, Writer},
    posture::{self, PostureMetrics},
    rollout::{self, Converge, Installation, Live, Replicas},
    scan, serving,
};

/// Time between two looks at which caches are still to be read.
const LOOK: Duration = Duration::from_millis(100);
/// Scans and checks of what runs that are made at once.
const VERIFICATIONS: usize = 8;
/// A proof is asked for when it is to be made anew: what holds for how long is the business of who asks.
const PROOF_TTL: Duration = Duration::from_secs(1);

/// Runs until a signal ends it, or a part of it can't go on.
pub async fn run(arguments: Arguments, settings: OperatorSettings) -> anyhow::Result<()> {
    let signal = shutdown::token()?;
    // Ends before the lease is given back; the election has a token of its own.
    let (work, election) = (CancellationToken::new(), CancellationToken::new());
    let client = Client::try_default().await.context("the API server's address and credentials")?;
    let namespace = arguments.pod_namespace.clone();
    let denied = networks::denied(&client).await;
    let mut registry = Registry::default();
    let verifier = verifier(&settings, &denied, &mut registry)?;
    let verdicts = verdicts(&settings, &mut registry)?;
    let pull_secrets = pull_secrets(&settings);
    let installation = Arc::new(Installation::new(settings, &namespace, denied)?);

    let (metrics, finding_metrics) = (Metrics::default(), FindingMetrics::default());
    let (intake_metrics, posture_metrics) = (IntakeMetrics::default(), PostureMetrics::default());
    metrics.register(&mut registry);
    finding_metrics.register(&mut registry);
    intake_metrics.register(&mut registry);
    posture_metrics.register(&mut registry);

    let me = Holder {
        name: arguments.pod_name.clone(),
        address: Some(std::net::SocketAddr::new(arguments.pod_ip, arguments.listen.port()).to_string()),
    };
    let (leadership, mut lease) = leader::start(ApiLease::new(client.clone(), &namespace), me, election.clone());

    let health = Health::default();
    let (caches, certificate, alive) = (health.part("caches"), health.part("certificate"), health.part("lease"));
    alive.ready();
    let about = about(leadership.clone(), arguments.pod_name.clone());
    let mut http = spawn(health::serve(arguments.http, health.clone(), registry, about, election.clone()));

    let policies = Policies::start(&client, &work);
    let rules =
        RuleBook::start(&client, policies.clone(), installation.exempt_namespaces.iter().cloned().collect(), &work);
    let nodes = NodeRegistry::default();
    let cluster = ClusterNodes::start(&client, &work);
    let pods = pods::start(&client, &work);
    let live = Live::start(&client, &installation, &work);
    let replicas = Replicas::start(&client, &installation, &work);
    let findings = finding::start(&client, leadership.clone(), policies.clone(), finding_metrics.clone(), &work);

    let tls = ServerTls::default();
    let (served, serving) = watch::channel(None);
    tokio::spawn(work.clone().run_until_cancelled_owned(serving::follow(
        live.clone(),
        tls.clone(),
        served,
        certificate,
    )));
    let ready = {
        let (rules, cluster, pods, live) = (rules.clone(), cluster.clone(), pods.clone(), live.clone());
        async move {
            // Rules are there when policies and namespaces are.
            loop {
                let read = [
                    ("policies and namespaces", rules.current().is_some()),
                    ("nodes", cluster.now().is_some()),
                    ("pods", pods.synced()),
                    ("objects", live.snapshot().is_complete()),
                ];
                let missing: Vec<_> = read.iter().filter(|(_, read)| !read).map(|(name, _)| *name).collect();
                if missing.is_empty() {
                    return caches.ready();
                }
                caches.not_ready(format!("not read yet: {}", missing.join(", ")));
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::spawn(work.clone().run_until_cancelled_owned(ready));

    let converge = Converge {
        client: client.clone(),
        installation: installation.clone(),
        leadership: leadership.clone(),
        policies: policies.clone(),
        live: live.clone(),
        replicas,
        serving,
        metrics: metrics.clone(),
    };
    let (report, mut rollout) = rollout::start(converge, work.clone());
    let posture = posture::Rooms {
        client: client.clone(),
        namespace: namespace.clone(),
        leadership: leadership.clone(),
        policies: policies.clone(),
        rules: rules.clone(),
        cluster: cluster.clone(),
        pods: pods.clone(),
        findings: findings.clone(),
        caps: finding::caps(policies.clone()),
        metrics: posture_metrics,
        verifier: verifier.clone(),
        backend: verdicts,
        pull_secrets: pull_secrets.clone(),
    };
    let posture = posture::start(posture, &work);
    let writer = Writer {
        client: client.clone(),
        instance: arguments.pod_name.clone(),
        installation: installation.clone(),
        leadership: leadership.clone(),
        policies: policies.clone(),
        report,
        live,
        rules: rules.clone(),
        nodes: nodes.clone(),
        cluster,
        pods: pods.clone(),
        findings: findings.clone(),
        posture,
        metrics,
    };
    let mut writer = tokio::spawn(writer.run(work.clone()));
    let scans = scan::Rooms {
        client: client.clone(),
        namespace: namespace.clone(),
        leadership: leadership.clone(),
        policies: policies.clone(),
        findings: findings.clone(),
        metrics: finding_metrics.clone(),
        verifier,
        pull_secrets,
    };
    scan::start(scans, &work);
    let rooms = intake::Rooms {
        client,
        accounts: ServiceAccounts::of(&namespace, &installation.observer.namespace),
        namespace,
        leadership,
        policies,
        rules,
        nodes,
        pods,
        findings,
        finding_metrics,
        metrics: intake_metrics,
    };
    let (address, until) = (arguments.listen, work.clone());
    let mut intake = spawn(async move { intake::serve(rooms, address, &tls, &until).await });

    let outcome = tokio::select! {
        () = signal.cancelled() => Ok(()),
        ended = &mut lease => Err(early("the election", ended.map(|ended| ended.map_err(anyhow::Error::from)))),
        ended = &mut http => Err(early("health", ended)),
        ended = &mut intake => Err(early("the intake", ended)),
        ended = &mut rollout => Err(early("the rollout", ended.map(Ok))),
        ended = &mut writer => Err(early("the status of policies", ended.map(Ok))),
    };
    alive.not_ready("shutting down");
    work.cancel();
    // Nothing of ours is written any more when the lease goes to another replica. The intake goes on to answer, and
    // names that one.
    for task in [rollout, writer] {
        if !task.is_finished() {
            let _ = task.await;
        }
    }
    election.cancel();
    if !lease.is_finished() {
        lease.await??;
    }
    if !intake.is_finished() {
        intake.await??;
    }
    outcome
}

fn spawn<E: Into<anyhow::Error> + Send + 'static>(
    task: impl Future<Output = Result<(), E>> + Send + 'static,
) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(async move { task.await.map_err(Into::into) })
}

/// A part that ended although nothing asked it to: the process must not go on without it.
fn early(part: &str, ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("{part} ended by itself"),
        Ok(Err(error)) => error.context(format!("{part} ended")),
        Err(error) => anyhow::Error::from(error).context(format!("{part} ended")),
    }
}

fn about(leadership: Leadership, name: String) -> impl Fn() -> serde_json::Value + Send + Sync + 'static {
    move || {
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "name": name,
            "leading": leadership.claim().is_ok(),
            "leader": leadership.holder().map(|holder| holder.name),
        })
    }
}

fn verifier(settings: &OperatorSettings, denied: &[String], metrics: &mut Registry) -> anyhow::Result<Verifier> {
    let registries = settings.registries.configured.iter().map(RegistrySettings::from).collect();
    let bounds = VerifierSettings { concurrency: VERIFICATIONS, proof_ttl: PROOF_TTL, ..VerifierSettings::default() };
    let registries = Registries::new(registries, denied)?;
    registries.register(metrics);
    Ok(Verifier::new(registries, bounds))
}

fn verdicts(settings: &OperatorSettings, metrics: &mut Registry) -> anyhow::Result<Verdicts> {
    let backend = settings.backend.settings(&settings.tenant, &settings.cluster);
    let Some(backend) = backend else { return Ok(Verdicts::not_configured()) };
    Ok(Verdicts::new(Backend::new(&backend)?, BackendMetrics::new(metrics)))
}

fn pull_secrets(settings: &OperatorSettings) -> Vec<String> {
    let names = settings.registries.configured.iter().map(|registry| registry.pull_secret.clone());
    names.filter(|name| !name.is_empty()).collect()
}
