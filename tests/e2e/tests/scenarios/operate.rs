//! What the operator keeps in order: at rest, when a part is taken from it, and when it is taken away itself.

mod breakglass;
mod findings;
mod recovery;
mod refused;
mod removal;
mod rest;
mod stream;
mod writes;

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use zastava_e2e::scene::{Answer, Scene};
use zastava_e2e::signer::Form;
use zastava_e2e::stage::Stage;
use zastava_e2e::wait::{Seen, until};
use zastava_e2e::workload::Workload;

use crate::ground::Told;

/// The key pair that policies name.
const TEAM: &str = "team";
/// The namespace that the chart makes for observers.
const OBSERVERS: &str = "zastava-observer";
/// What chart and operator label, and nobody else.
const OWN: &str = "app.kubernetes.io/name=zastava";
/// Kinds that the operator makes.
const MADE: &str = "deployments,daemonsets,poddisruptionbudgets,services,configmaps,secrets,\
                    validatingwebhookconfigurations,mutatingwebhookconfigurations,\
                    validatingadmissionpolicies,validatingadmissionpolicybindings";

/// A policy that asks for both ends, and refuses what the team did not sign.
fn both_ends(scene: &Scene<'_>) -> anyhow::Result<Value> {
    Ok(json!({"mode": "Enforce", "admission": scene.signed_by(TEAM)?, "runtime": {"drift": {"action": "Audit"}}}))
}

/// An image that the team signed.
fn signed(scene: &Scene<'_>) -> anyhow::Result<String> {
    let image = Workload::push(scene.stage(), &format!("{}-signed", scene.namespace()), "1", "signed")?;
    Ok(image.signed_by(TEAM, Form::Bundle)?.reference().tagged())
}

/// An image that nobody signed.
fn unsigned(scene: &Scene<'_>) -> anyhow::Result<String> {
    Ok(Workload::push(scene.stage(), &format!("{}-unsigned", scene.namespace()), "1", "unsigned")?.reference().tagged())
}

/// Pods start: one is taken and runs.
async fn pods_start(scene: &Scene<'_>, image: &str, within: Duration) -> Told {
    until("a pod is taken", within, async || {
        Ok(match scene.create(scene.pod("starts", image)).await? {
            Answer::Taken(_) => Seen::There(()),
            Answer::Refused(message) => Seen::NotYet(message),
        })
    })
    .await?;
    scene.running("starts").await?;
    scene.forget("starts").await?;
    Ok(())
}

/// Names of what is there of these kinds with these labels.
fn names(stage: &Stage, kinds: &str, labels: &str) -> zastava_e2e::error::Result<Vec<String>> {
    let text = stage.kubectl(&["get", kinds, "--all-namespaces", "--selector", labels, "--output", "name"])?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Waits until nothing of these kinds with these labels is left.
async fn gone(stage: &Stage, kinds: &str, labels: &str, within: Duration) -> Told {
    until(&format!("nothing is left of {kinds} with {labels}"), within, async || {
        let left = names(stage, kinds, labels)?;
        Ok(if left.is_empty() { Seen::There(()) } else { Seen::NotYet(left.join(", ")) })
    })
    .await?;
    Ok(())
}

/// That the policy does refuse: without it, a pod that starts afterwards would prove nothing.
async fn refuses(scene: &Scene<'_>, image: &str) -> Told {
    let message = scene.create(scene.pod("unsigned", image)).await?.refused()?;
    ensure!(message.contains("no signature"), "{message}");
    Ok(())
}
