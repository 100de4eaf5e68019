//! What happens while no observer looks.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use zastava_crds::wire::event::{DriftClass, Severity};
use zastava_e2e::wait::{Seen, until};

use super::{Expected, FOUND, image, observed, pod, told};
use crate::ground::alone;
use crate::loops::victim::Victim;

#[tokio::test]
async fn a_container_that_drifts_and_ends_while_its_observer_is_replaced_gives_its_finding() {
    alone("absent", async |scene| {
        if scene.stage().run().is_none() {
            eprintln!("skipped: the processes of this cluster are not ours to kill");
            return Ok(());
        }
        let policy = json!({"mode": "Audit", "runtime": {"drift": {"action": "Audit"}}});
        observed(scene, pod(scene, "app", &image(scene)?), policy).await?;
        let observer = Victim::observer_of(scene.client(), scene.namespace(), "app").await?;
        observer.stop()?;
        let said = told(scene, "app", "fresh /tmp/busybox-alone; tell alone /tmp/busybox-alone echo ran")?;
        ensure!(said["alone"] == "0 ran", "{said:?}");
        let pods: Api<Pod> = Api::namespaced(scene.client().clone(), scene.namespace());
        pods.delete("app", &DeleteParams::default().grace_period(0)).await?;
        until("the pod is gone", FOUND, async || {
            Ok(if pods.get_opt("app").await?.is_none() { Seen::There(()) } else { Seen::NotYet("there".into()) })
        })
        .await?;
        observer.kill()?;
        let finding = Expected::once("/tmp/busybox-alone", DriftClass::New, Severity::High).found(scene).await?;
        ensure!(finding.status.context("no status")?.pods == ["app"], "another pod");
        Ok(())
    })
    .await;
}
