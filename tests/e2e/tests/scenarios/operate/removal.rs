//! The release taken away, however that is done: what it leaves is a cluster on which pods start.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::api::{ApiResource, DeleteParams, DynamicObject, TypeMeta};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use zastava_e2e::release;
use zastava_e2e::scene::Scene;
use zastava_e2e::stage::Stage;
use zastava_e2e::wait::{Seen, until};

use super::{MADE, OWN, both_ends, gone, pods_start, refuses, unsigned};
use crate::ground::{Told, alone};

/// How long pods may be refused, and how long the rest may stay.
const SOON: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_secs(90);
/// Orders of deletion: the same ones in each run.
const SEEDS: [u64; 2] = [3, 20];

#[tokio::test]
async fn helm_uninstall_leaves_a_cluster_on_which_pods_start() {
    alone("uninstall", async |scene| {
        without(scene, async |stage| Ok(release::uninstall(stage)?)).await?;
        // Policies stay, and are in force again with the next release.
        scene.policy_ready().await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn manifests_deleted_in_any_order_leave_a_cluster_on_which_pods_start() {
    alone("any-order", async |scene| {
        for seed in SEEDS {
            eprintln!("any-order: seed {seed}");
            let client = scene.client();
            let act = async |stage: &Stage| delete_in_order(client, &release::manifest(stage)?, seed).await;
            without(scene, act).await.with_context(|| format!("seed {seed}"))?;
        }
        Ok(())
    })
    .await;
}

/// A policy in force; then the release goes by `remove`, and comes again whatever came of it.
async fn without(scene: &Scene<'_>, remove: impl AsyncFnOnce(&Stage) -> Told) -> Told {
    let stage = scene.stage();
    let values = release::given(stage)?;
    let unsigned = unsigned(scene)?;
    scene.policy(both_ends(scene)?).await?;
    refuses(scene, &unsigned).await?;
    let told = async {
        remove(stage).await?;
        pods_start(scene, &unsigned, SOON).await?;
        // The chart may keep the CRDs; of the rest nothing stays.
        gone(stage, &format!("{MADE},serviceaccounts,networkpolicies,clusterroles,clusterrolebindings"), OWN, LATER)
            .await
    };
    let told = told.await;
    back(stage, &values).await.context("the release comes again")?;
    told
}

/// Installs the release again on whatever is left of it.
async fn back(stage: &Stage, values: &serde_json::Value) -> Told {
    release::uninstall(stage)?;
    // A namespace or a CRD that is still going takes nothing new with its name.
    let shape = "jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.kind} {.metadata.name}{\"\\n\"}{end}";
    until("what is going is gone", LATER, async || {
        let going = stage.kubectl(&["get", "namespaces,customresourcedefinitions", "--output", shape])?;
        Ok(if going.trim().is_empty() { Seen::There(()) } else { Seen::NotYet(going) })
    })
    .await?;
    // A leader that lost its rights could not give its lease back. Once it is gone, nobody needs to wait for its end.
    gone(stage, "pods", &format!("{OWN},app.kubernetes.io/component=operator"), LATER).await?;
    stage.kubectl(&["delete", "lease", "zastava-operator", "--namespace", release::NAMESPACE, "--ignore-not-found"])?;
    Ok(release::install_with(stage, values).await?)
}

/// Deletes what the chart rendered, one after the other, in an order that the seed decides.
async fn delete_in_order(client: &Client, manifest: &str, seed: u64) -> Told {
    let mut objects: Vec<DynamicObject> =
        serde_saphyr::from_multiple::<Option<DynamicObject>>(manifest)?.into_iter().flatten().collect();
    ensure!(objects.len() > 20, "the release renders only {} objects", objects.len());
    shuffle(&mut objects, seed);
    for object in objects {
        let name = object.metadata.name.as_deref().context("an object without a name")?;
        let types: TypeMeta = object.types.clone().context("an object without a kind")?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
            None => Api::all_with(client.clone(), &kind),
        };
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            // Its owner or its namespace went before.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error).with_context(|| format!("{} {name}", kind.kind)),
        }
    }
    Ok(())
}

/// Fisher and Yates, over the numbers of splitmix64.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^= number >> 31;
        let other = usize::try_from(number % (last as u64 + 1)).unwrap_or(0);
        items.swap(last, other);
    }
}
