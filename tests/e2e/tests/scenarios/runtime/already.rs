//! What ran before there was an observer.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use serde_json::json;
use zastava_crds::wire::event::{DriftClass, Severity};
use zastava_e2e::wait::{Seen, until};

use super::{Expected, ROLLED_OUT, image, observers, pod, told};
use crate::ground::alone;

#[tokio::test]
async fn what_ran_before_the_observer_came_is_told_once_as_such() {
    alone("already", async |scene| {
        // Nobody else asks for observation: the observers go, and their probes with them.
        let sets: Api<DaemonSet> = Api::namespaced(scene.client().clone(), "zastava-observer");
        until("no observer is left", ROLLED_OUT, async || {
            let set = sets.get_opt("zastava-observer").await?;
            Ok(if set.is_none() { Seen::There(()) } else { Seen::NotYet("the DaemonSet is there".into()) })
        })
        .await?;
        scene.create(pod(scene, "app", &image(scene)?)).await?.taken()?;
        scene.running("app").await?;
        told(
            scene,
            "app",
            "fresh /tmp/busybox-early; setsid /tmp/busybox-early tail -f /dev/null </dev/null >/dev/null 2>&1 &",
        )?;
        scene.policy(json!({"mode": "Enforce", "runtime": {"drift": {"action": "Kill"}}})).await?;
        observers(scene).await?;
        let finding = Expected::once("/tmp/busybox-early", DriftClass::New, Severity::High).found(scene).await?;
        let message = finding.status.and_then(|status| status.evidence).context("no evidence")?.message;
        ensure!(message.contains("already running"), "{message}");
        ensure!(!message.contains("killed before"), "{message}");
        Ok(())
    })
    .await;
}
