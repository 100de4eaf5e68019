//! What is taken from Zastava comes back by itself, and nobody who starts pods notices.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use zastava_crds::finding::FindingType;
use zastava_e2e::error::Result;
use zastava_e2e::release::{NAMESPACE, rolled_out};
use zastava_e2e::scene::Scene;
use zastava_e2e::wait::{Seen, until};

use super::stream::Stream;
use super::{OBSERVERS, OWN, both_ends, refuses, signed, unsigned};
use crate::ground::{Told, alone};

/// How long a part may be away, and how long what it replaces may answer its last requests.
const BACK: Duration = Duration::from_secs(90);

#[tokio::test]
async fn what_is_deleted_comes_back_without_a_refused_pod() {
    // Alone: others would wait for an intake and for observers that are away.
    alone("recovery", async |scene| {
        let (signed, unsigned) = (signed(scene)?, unsigned(scene)?);
        scene.policy(both_ends(scene)?).await?;
        scene.run("app", &signed).await?;
        let stream = Stream::start(scene, &signed)?;

        for component in ["operator", "webhook"] {
            pods_come_back(scene, component).await.with_context(|| format!("the {component}'s pods"))?;
            stream.unhurt(&format!("the {component}'s pods were deleted"))?;
        }
        for name in ["zastava-webhook-tls", "zastava-intake-tls", "zastava-ca"] {
            let secrets: Api<Secret> = Api::namespaced(scene.client().clone(), NAMESPACE);
            comes_back(&secrets, name, |secret| {
                secret.data.as_ref().is_some_and(|data| data.contains_key("tls.crt") && data.contains_key("tls.key"))
            })
            .await?;
            scene.policy_ready().await?;
            stream.unhurt(&format!("the Secret {name} was deleted"))?;
        }
        let sets: Api<DaemonSet> = Api::namespaced(scene.client().clone(), OBSERVERS);
        comes_back(&sets, "zastava-observer", |set| {
            let status = set.status.as_ref();
            status.is_some_and(|status| {
                status.desired_number_scheduled > 0 && status.number_ready == status.desired_number_scheduled
            })
        })
        .await?;
        scene.policy_ready().await?;
        stream.unhurt("the DaemonSet was deleted")?;

        // All of it works as before: a refusal is reported, a drift is seen.
        refuses(scene, &unsigned).await?;
        scene.finding("the refused image", BACK, |finding| finding.spec.type_ == FindingType::Admission).await?;
        scene.shell("app", "cp /bin/busybox /tmp/busybox-new && /tmp/busybox-new true")?.stdout()?;
        scene.finding("the dropped program", BACK, |finding| finding.spec.subject == "/tmp/busybox-new").await?;
        stream.unhurt("everything was back")?;
        Ok(())
    })
    .await;
}

/// Deletes all pods of a component at once, and waits until as many others are there.
async fn pods_come_back(scene: &Scene<'_>, component: &str) -> Told {
    let pods: Api<Pod> = Api::namespaced(scene.client().clone(), NAMESPACE);
    let labels = ListParams::default().labels(&format!("{OWN},app.kubernetes.io/component={component}"));
    let uids = async || -> Result<BTreeSet<String>> {
        Ok(pods.list(&labels).await?.items.iter().filter_map(Pod::uid).collect())
    };
    let before = uids().await?;
    pods.delete_collection(&DeleteParams::default(), &labels).await?;
    until("other pods are there", BACK, async || {
        let now = uids().await?;
        let ready = now.len() >= before.len() && now.is_disjoint(&before);
        Ok(if ready { Seen::There(()) } else { Seen::NotYet(format!("before {before:?}, now {now:?}")) })
    })
    .await?;
    rolled_out(scene.client(), NAMESPACE, &format!("zastava-{component}"), BACK).await?;
    scene.policy_ready().await?;
    Ok(())
}

/// Deletes an object, and waits until another of its name is there and whole.
async fn comes_back<K>(api: &Api<K>, name: &str, whole: impl Fn(&K) -> bool) -> Told
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let before = api.get(name).await?.uid();
    api.delete(name, &DeleteParams::default()).await?;
    until(&format!("{name} is back"), BACK, async || {
        Ok(match api.get_opt(name).await? {
            Some(now) if now.uid() != before && whole(&now) => Seen::There(()),
            Some(now) if now.uid() == before => Seen::NotYet("still the old one".into()),
            Some(_) => Seen::NotYet("a new one, not whole yet".into()),
            None => Seen::NotYet("gone".into()),
        })
    })
    .await?;
    Ok(())
}
