//! What is mapped for execution and is not content of the image.

use anyhow::{Context as _, ensure};
use serde_json::json;
use zastava_crds::finding::{FindingType, RuntimeFinding};
use zastava_crds::wire::event::{DriftClass, Severity};

use super::{FOUND, image, observed, pod, told};
use crate::ground::scenario;

#[tokio::test]
async fn a_loaded_file_that_is_not_the_images_gives_a_finding_of_its_own_type() {
    scenario("libraries", async |scene| {
        let policy = json!({
            "mode": "Audit",
            "runtime": {"drift": {"action": "Audit", "allow": ["/plugins"]}, "libraries": "Audit"},
        });
        observed(scene, pod(scene, "app", &image(scene)?), policy).await?;
        let script = "fresh /tmp/lib.so; tell new odd map /tmp/lib.so; fresh /data/lib.so; tell volume odd map /data/lib.so
fresh /plugins/lib.so; tell allowed odd map /plugins/lib.so; tell own odd map /bin/busybox; tell last odd map /tmp/lib.so";
        for (name, said) in told(scene, "app", script)? {
            ensure!(said == "0 mapped", "{name}: {said}");
        }
        let expected = [("/tmp/lib.so", DriftClass::New, Severity::Medium, 2), ("/data/lib.so", DriftClass::Foreign, Severity::Low, 1)];
        for (subject, class, severity, count) in expected {
            let is_it = |finding: &RuntimeFinding| {
                finding.spec.type_ == FindingType::Library
                    && finding.spec.subject == subject
                    && finding.status.as_ref().is_some_and(|status| status.count >= count)
            };
            let status = scene.finding(subject, FOUND, is_it).await?.status.context("no status")?;
            let evidence = status.evidence.context("no evidence")?;
            ensure!((status.severity, status.count) == (Some(severity), count), "{subject}: {:?} {}", status.severity, status.count);
            ensure!(evidence.class == Some(class), "{subject}: {evidence:?}");
        }
        let all = scene.findings().await?;
        ensure!(all.len() == 2, "found as well: {:?}", all.iter().map(|one| &one.spec.subject).collect::<Vec<_>>());
        Ok(())
    })
    .await;
}
