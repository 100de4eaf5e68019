//! What is gone before anybody looks: a container that ends at once, and one whose namespace goes with it.

use anyhow::{Context as _, ensure};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use zastava_crds::finding::RuntimeFinding;
use zastava_crds::wire::event::{DriftClass, Severity};
use zastava_e2e::release;
use zastava_e2e::wait::{Seen, until};

use super::{Expected, FOUND, found, image, observed, pod, told};
use crate::ground::scenario;

/// From its first instruction to its end, a few milliseconds.
const BRIEF: &str = "cp /bin/busybox /tmp/busybox-brief && echo >>/tmp/busybox-brief && exec /tmp/busybox-brief true";

/// The last thing it does when it is told to end.
const LAST: &str = "trap '/tmp/busybox-last true; exit 0' TERM; while :; do sleep 1 & wait $!; done";

#[tokio::test]
async fn a_container_that_ended_at_once_gives_its_finding() {
    scenario("brief", async |scene| {
        let image = image(scene)?;
        let policy = json!({"mode": "Audit", "runtime": {"drift": {"action": "Audit"}}});
        let node = observed(scene, pod(scene, "app", &image), policy).await?;
        let mut brief = scene.pod("brief", &image);
        brief["spec"]["nodeName"] = json!(node);
        brief["spec"]["restartPolicy"] = json!("Never");
        brief["spec"]["containers"][0]["command"] = json!(["/bin/sh", "-c", BRIEF]);
        scene.create(brief).await?.taken()?;
        let brief = Expected::once("/tmp/busybox-brief", DriftClass::New, Severity::High).in_pod("brief");
        let findings = found(scene, &[brief]).await?;
        let status = findings.into_iter().next().and_then(|finding| finding.status).context("no status")?;
        ensure!(status.pods == ["brief"] && status.nodes == [node], "{:?} on {:?}", status.pods, status.nodes);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_finding_whose_namespace_is_going_is_kept_with_zastava() {
    scenario("going", async |scene| {
        let mut app = pod(scene, "app", &image(scene)?);
        app["spec"]["terminationGracePeriodSeconds"] = json!(20);
        app["spec"]["containers"][0]["command"] = json!(["/bin/sh", "-c", LAST]);
        observed(scene, app, json!({"mode": "Audit", "runtime": {"drift": {"action": "Audit"}}})).await?;
        told(scene, "app", "fresh /tmp/busybox-last")?;
        // From here on the namespace takes no new object, and only then its pods are told to end.
        scene.delete_namespace().await?;

        let kept: Api<RuntimeFinding> = Api::namespaced(scene.client().clone(), release::NAMESPACE);
        let workload = format!("{}/app", scene.namespace());
        let finding = until(&format!("a finding of {workload}"), FOUND, async || {
            let all = kept.list(&ListParams::default()).await?.items;
            let seen: Vec<String> = all.iter().map(|finding| finding.spec.workload.name.clone()).collect();
            let found =
                all.into_iter().find(|finding| finding.spec.workload.name == workload && finding.status.is_some());
            Ok(found.map_or(Seen::NotYet(format!("{seen:?}")), Seen::There))
        })
        .await?;
        kept.delete(finding.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await?;
        ensure!(finding.spec.subject == "/tmp/busybox-last", "{:?}", finding.spec);
        let status = finding.status.context("no status")?;
        ensure!(status.unverified && status.count == 1, "{status:?}");
        Ok(())
    })
    .await;
}
