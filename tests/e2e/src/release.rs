//! Zastava installed on the cluster, with Helm, as a person would.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::command::output;
use crate::error::{At as _, Result};
use crate::product::Product;
use crate::registry::{Reference, Registry};
use crate::stage::Stage;
use crate::wait::{Seen, until};

/// The release's namespace.
pub const NAMESPACE: &str = "zastava-system";
/// The release's name.
const RELEASE: &str = "zastava";

/// Installs or upgrades the release with images of this tree, and waits until the operator runs.
pub async fn install(stage: &Stage, product: &Product) -> Result<()> {
    install_with(stage, &values(stage, product)).await
}

/// The values that the installed release was given.
pub fn given(stage: &Stage) -> Result<Value> {
    let text =
        output(stage.tool("helm").args(["get", "values", RELEASE, "--namespace", NAMESPACE, "--output", "json"]))?;
    Ok(serde_json::from_str(&text)?)
}

/// Everything that the installed release rendered, as YAML documents.
pub fn manifest(stage: &Stage) -> Result<String> {
    output(stage.tool("helm").args(["get", "manifest", RELEASE, "--namespace", NAMESPACE]))
}

/// Installs or upgrades the release with these values, and waits until the operator runs.
pub async fn install_with(stage: &Stage, values: &Value) -> Result<()> {
    let folder = tempfile::tempdir().at(std::env::temp_dir())?;
    let file = folder.path().join("values.json");
    fs::write(&file, values.to_string()).at(&file)?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/zastava");
    output(
        stage
            .tool("helm")
            .args(["upgrade", "--install", RELEASE])
            .arg(chart)
            .args(["--namespace", NAMESPACE, "--create-namespace", "--values"])
            .arg(&file),
    )?;
    let client = stage.client().await?;
    rolled_out(&client, NAMESPACE, "zastava-operator", Duration::from_mins(2)).await
}

/// Removes the release; CRDs, policies and findings stay, as the chart's value `crds.keep` says.
pub fn uninstall(stage: &Stage) -> Result<()> {
    output(stage.tool("helm").args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found"])).map(drop)
}

fn values(stage: &Stage, product: &Product) -> Value {
    let registry = stage.registry();
    let image = |reference: &Reference| {
        let repository = reference.repository.strip_prefix(registry.base()).unwrap_or_default().trim_start_matches('/');
        json!({"repository": repository, "tag": reference.tag, "digest": reference.digest})
    };
    let registries: Vec<_> = std::iter::once(registry).chain(stage.bare_registry()).collect();
    let port = |registry: &&Registry| registry.host().rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let ports: BTreeSet<_> = registries.iter().filter_map(port).chain([443]).collect();
    let configured = registries.iter().map(|one| json!({"host": one.host(), "plainHttp": one.plain_http()}));
    json!({
        "cluster": "e2e",
        "image": {
            "registry": registry.base(),
            "operator": image(&product.operator),
            "webhook": image(&product.webhook),
            "observer": image(&product.observer),
        },
        "registries": {"configured": configured.collect::<Vec<_>>()},
        "networkPolicy": {"registries": {"ports": ports}},
    })
}

/// Waits until a Deployment runs its newest pods, all of them ready and no others.
pub async fn rolled_out(client: &Client, namespace: &str, name: &str, within: Duration) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    until(&format!("deployment {namespace}/{name} is rolled out"), within, async || {
        let Some(deployment) = deployments.get_opt(name).await? else {
            return Ok(Seen::NotYet("no such Deployment".into()));
        };
        let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.unwrap_or_default();
        let count = |replicas: Option<i32>| replicas.unwrap_or(0);
        let done = status.observed_generation >= deployment.metadata.generation
            && count(status.updated_replicas) == wanted
            && count(status.replicas) == wanted
            && count(status.available_replicas) == wanted;
        if done {
            return Ok(Seen::There(()));
        }
        let (ready, updated) = (count(status.ready_replicas), count(status.updated_replicas));
        let pods = pods(client, namespace).await?;
        Ok(Seen::NotYet(format!("{ready} of {wanted} ready, {updated} updated; pods of {namespace}:{pods}")))
    })
    .await
}

/// The pods of a namespace, one a line, with what keeps them from being ready.
pub async fn pods(client: &Client, namespace: &str) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let lines = pods.list(&ListParams::default()).await?.items.into_iter().map(|pod| {
        let name = pod.metadata.name.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let phase = status.phase.unwrap_or_else(|| "no phase".into());
        let conditions = status.conditions.into_iter().flatten().filter(|condition| condition.status != "True");
        let unmet = conditions.filter_map(|condition| condition.message);
        let of_containers = status.container_statuses.into_iter().flatten().filter_map(|container| {
            let state = container.state?;
            let waiting = state.waiting.map(|waiting| [waiting.reason, waiting.message]);
            let ended = container.last_state.and_then(|last| last.terminated);
            let ended = ended.map(|ended| [Some(format!("last exit {}", ended.exit_code)), ended.message]);
            let words: Vec<String> = waiting.into_iter().chain(ended).flatten().flatten().collect();
            (!words.is_empty()).then(|| words.join(": "))
        });
        let why: Vec<String> = unmet.chain(of_containers).collect();
        format!("\n    {name} {phase} {}", why.join("; "))
    });
    Ok(lines.collect())
}
