//! The program: every part started, each told when to end, in an order that loses no request.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::{Client, runtime::reflector};
use prometheus_client::registry::Registry;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use zastava_admission::{
    credentials::{configured, pull::Credentials},
    metrics::Metrics,
    policies::snapshot::World,
    report::queue::{self, Outbox},
    server::{app::App, endpoint::router},
    warm::Recent,
};
use zastava_core::{
    backend::{client::Backend, metrics::BackendMetrics, verdicts::Verdicts},
    health::{self, Health},
    intake::IntakeClient,
    settings::webhook::WebhookSettings,
    shutdown,
    tls::ServerTls,
};
use zastava_crds::canonical;
use zastava_verify::{
    registry::{Registry as Registries, RegistrySettings},
    verifier::{Verifier, VerifierSettings},
};

use crate::{arguments::Arguments, certificate, warmup, watch};

/// Address of the API server's service, which no registry is at.
const API_SERVER: &str = "KUBERNETES_SERVICE_HOST";
/// Time that reports have after the last request: what the pod is given to end, less what open requests may take.
const LAST_REPORTS: Duration = Duration::from_secs(8);

/// Runs until a signal ends it, or a part of it can't go on.
pub async fn run(arguments: Arguments, settings: WebhookSettings) -> anyhow::Result<()> {
    let signal = shutdown::token()?;
    // What serves requests outlives the server.
    let rest = CancellationToken::new();
    let client = Client::try_default().await.context("the API server's address and credentials")?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let (reporter, outbox) = queue::queue(metrics.clone());
    let intake = IntakeClient::new(&settings.intake)?;
    let (namespaces, seen) = reflector::store();
    let registries = registries(&settings)?;
    registries.register(&mut registry);
    let engine = Verifier::new(registries, VerifierSettings::default());
    engine.counts().register(&mut registry);
    let verdicts = verdicts(&settings, &mut registry)?;
    let app = Arc::new(App {
        engine,
        cluster: client.clone(),
        verdicts: verdicts.clone(),
        world: Arc::new(World::new(namespaces)),
        credentials: Arc::new(Credentials::new(settings.registries.pull_secrets.namespaces.clone())),
        exempt: settings.exempt_namespaces.iter().cloned().collect(),
        recent: Recent::default(),
        reporter,
        metrics,
        work: Semaphore::new(settings.concurrency),
    });
    let health = Health::default();
    let (policies_read, namespaces_read) = (health.part("policies"), health.part("namespaces"));
    let nodes_read = health.part("nodes");
    let (leaf_served, secrets_read) = (health.part("certificate"), health.part("credentials"));
    let (serving, verdicts_made) = (health.part("serving"), health.part("warm-up"));
    let (read, reading) = tokio::sync::watch::channel(warmup::Read::default());
    let tls = ServerTls::default();
    let mut parts: JoinSet<anyhow::Result<&'static str>> = JoinSet::new();

    let status = {
        let (world, tls, hash) = (app.world.clone(), tls.clone(), canonical::hash(&settings)?);
        move || {
            let mut status = world.status(&hash, tls.is_published());
            status["backend"] = verdicts.status();
            status
        }
    };
    let until = rest.clone();
    let (http, ready) = (arguments.http, health.clone());
    parts.spawn(async move {
        health::serve(http, ready, registry, status, until).await?;
        Ok("health")
    });
    let policies_known = read.clone();
    let (watched, world, namespace, until) =
        (client.clone(), app.world.clone(), settings.namespace.clone(), rest.clone());
    parts.spawn(async move {
        let synced = |synced: watch::Synced| {
            policies_known.send_if_modified(|read| {
                let now = warmup::Read { policies: synced.policies, nodes: synced.nodes, ..*read };
                std::mem::replace(read, now) != now
            });
            policies_read.set(synced.policies, "policies, or keys that they name, were not all read yet");
            nodes_read.set(synced.nodes, "the nodes' platforms were not all read yet");
            namespaces_read.set(synced.namespaces, "namespaces were not all read yet");
        };
        watch::run(watched, &namespace, &world, seen, synced, &until).await;
        Ok("watches")
    });
    let (watched, held, namespace, until) =
        (client.clone(), app.credentials.clone(), settings.namespace.clone(), rest.clone());
    let names: BTreeSet<_> = settings.registries.configured.iter().map(|entry| entry.pull_secret.clone()).collect();
    parts.spawn(async move {
        let names = names.into_iter().filter(|name| !name.is_empty()).collect();
        let settled = |settled| {
            read.send_if_modified(|read| std::mem::replace(&mut read.credentials, settled) != settled);
            secrets_read.set(settled, "credentials of configured registries were not all read yet");
        };
        configured::run(&watched, &namespace, names, |keychain| held.configure(keychain), settled, &until).await;
        // Without any Secret to watch there is nothing to do until the end.
        until.cancelled().await;
        Ok("credentials")
    });
    let warming = warmup::run(client.clone(), app.clone(), reading, move || verdicts_made.ready(), rest.clone());
    parts.spawn(async move {
        warming.await;
        Ok("warm-up")
    });
    let (namespace, until, published) = (settings.namespace.clone(), rest.clone(), tls.clone());
    parts.spawn(async move {
        let publish = |leaf: certificate::Leaf| match published.publish(&leaf.chain, &leaf.key) {
            Ok(()) => leaf_served.ready(),
            Err(error) => {
                tracing::error!(category = error.category(), %error, "the certificate can't be served");
                leaf_served.set(published.is_published(), "the certificate can't be served");
            }
        };
        certificate::watch(&client, &namespace, publish, &until).await;
        Ok("certificate")
    });
    let (mark, until) = (reporter_mark(&arguments.pod_uid), rest.clone());
    let reports = tokio::spawn(report(outbox, mark, intake, until));

    serving.ready();
    let routes = router(app);
    let outcome = tokio::select! {
        served = tls.serve(routes, arguments.listen, &signal) => served.map_err(anyhow::Error::from),
        Some(ended) = parts.join_next() => ended_early(ended),
    };
    serving.not_ready("shutting down");
    rest.cancel();
    let _ = reports.await;
    while let Some(ended) = parts.join_next().await {
        ended??;
    }
    outcome
}

/// Readiness does not depend on the backend: a policy says what becomes of an image while it is down.
fn verdicts(settings: &WebhookSettings, registry: &mut Registry) -> anyhow::Result<Verdicts> {
    let Some(backend) = &settings.backend else { return Ok(Verdicts::not_configured()) };
    Ok(Verdicts::new(Backend::new(backend)?, BackendMetrics::new(registry)))
}

fn ended_early(ended: Result<anyhow::Result<&'static str>, tokio::task::JoinError>) -> anyhow::Result<()> {
    let part = ended??;
    anyhow::bail!("{part} ended by itself")
}

/// Reports until the end, and then for a while longer.
async fn report(outbox: Outbox, mark: String, intake: IntakeClient, until: CancellationToken) {
    let emptied = outbox.run(mark, intake, until.clone());
    let late = async {
        until.cancelled().await;
        tokio::time::sleep(LAST_REPORTS).await;
    };
    tokio::select! {
        () = emptied => {}
        () = late => tracing::warn!("the intake did not take the last reports in time"),
    }
}

/// Who reports: this pod, and this start of it, because its numbers begin again.
fn reporter_mark(pod_uid: &str) -> String {
    format!("pod:{pod_uid}/{:x}", jiff::Timestamp::now().as_millisecond())
}

fn registries(settings: &WebhookSettings) -> anyhow::Result<Registries> {
    let registries = settings.registries.configured.iter().map(RegistrySettings::from).collect();
    let mut denied = settings.denied_networks.clone();
    denied.extend(std::env::var(API_SERVER).ok().filter(|address| !address.is_empty()));
    Ok(Registries::new(registries, &denied)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reporter_is_a_pod_and_a_start_of_it() {
        let mark = reporter_mark("0b2c");
        assert!(mark.starts_with("pod:0b2c/") && mark.len() <= 128 && mark.len() > "pod:0b2c/".len(), "{mark}");
    }
}
