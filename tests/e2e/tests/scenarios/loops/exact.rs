//! Each exec counts once, whoever dies on the way.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::json;
use zastava_crds::finding::RuntimeFinding;
use zastava_e2e::cluster::control::{self, Program};
use zastava_e2e::cluster::node;
use zastava_e2e::release::{NAMESPACE, rolled_out};
use zastava_e2e::scene::{Scene, ready};

use super::accounts::balanced;
use super::burst::{Burst, POD};
use super::victim::Victim;
use crate::ground::{Told, alone};

/// How long a burst may take, with all that waits for the end of leases and for restarts.
const SETTLED: Duration = Duration::from_mins(2);
/// How long a changed policy may take after an outage.
const SOON: Duration = Duration::from_secs(30);
/// How long the API server is away.
const AWAY: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_observer_killed_in_the_middle_of_a_burst_loses_and_doubles_nothing() {
    alone("observer-killed", async |scene| {
        if elsewhere(scene) {
            return Ok(());
        }
        let burst = Burst::prepare(scene).await?;
        burst.start("0.2").await?;
        let observer = Victim::observer_of(scene.client(), scene.namespace(), POD).await?;
        observer.kill()?;
        burst.is_counted_on(burst.counted().await?).await?;
        burst.is_exact(SETTLED).await?;
        balanced(scene).await
    })
    .await;
}

#[tokio::test]
async fn a_leader_killed_between_write_and_acknowledgement_loses_and_doubles_nothing() {
    alone("leader-killed", async |scene| {
        if elsewhere(scene) {
            return Ok(());
        }
        let burst = Burst::prepare(scene).await?;
        burst.start("0.2").await?;
        let leader = Victim::leader(scene.client()).await?;
        // A batch speaks of many findings: when the first of them is written, its receipt is still to come.
        written(scene).await.with_context(|| format!("{} leads", leader.pod))?;
        leader.kill()?;
        burst.is_counted_on(burst.counted().await?).await?;
        burst.is_exact(SETTLED).await?;
        rolled_out(scene.client(), NAMESPACE, "zastava-operator", SETTLED).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_api_server_away_for_a_minute_loses_and_doubles_nothing() {
    alone("api-away", async |scene| {
        let Some(run) = scene.stage().run() else {
            elsewhere(scene);
            return Ok(());
        };
        let burst = Burst::prepare(scene).await?;
        burst.start("2").await?;
        control::stop(run, Program::ApiServer)?;
        tokio::time::sleep(AWAY).await;
        // Controllers and kubelets start anew as well: what they do about an outage is to pause for up to a minute.
        control::stop(run, Program::Controllers)?;
        run.nodes().try_for_each(|at| node::stop(run, at, node::Program::Kubelet))?;
        run.restore().await?;
        // The leader does not go on with what it knew before.
        scene.apply_policy(json!({"runtime": {"drift": {"action": "Audit", "allow": ["/plugins"]}}})).await?;
        ready(scene.client(), scene.namespace(), SOON).await?;
        burst.is_exact(SETTLED).await?;
        // Everybody else is back as well.
        rolled_out(scene.client(), NAMESPACE, "zastava-operator", SETTLED).await?;
        scene.policy_ready().await?;
        Ok(())
    })
    .await;
}

/// The cluster's processes are not on this machine.
fn elsewhere(scene: &Scene<'_>) -> bool {
    let elsewhere = scene.stage().run().is_none();
    if elsewhere {
        eprintln!("skipped: the processes of this cluster are not ours to kill");
    }
    elsewhere
}

/// Waits for the next write of a finding of the scene's namespace: the moment it is there.
async fn written(scene: &Scene<'_>) -> Told {
    let findings: Api<RuntimeFinding> = Api::namespaced(scene.client().clone(), scene.namespace());
    let version = findings.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut changes = pin!(findings.watch(&WatchParams::default().timeout(60), &version).await?);
    while let Some(change) = changes.next().await {
        if let WatchEvent::Modified(_) = change? {
            return Ok(());
        }
    }
    bail!("no finding was written for a minute")
}
