//! What the image's signed bill of materials says of what ran.

use anyhow::{Context as _, ensure};
use serde_json::json;
use zastava_crds::finding::{RuntimeFinding, ScanPhase, ScanStatus, ScanVerdict};
use zastava_e2e::scene::Scene;
use zastava_e2e::workload::Workload;

use super::{FOUND, observed, pod, told};
use crate::ground::{Told, scenario};

const TEAM: &str = "team";

const ACT: &str = r"
fresh /tmp/busybox-new
tell new /tmp/busybox-new echo ran
echo >>/srv/busybox-rewritten
tell rewritten /srv/busybox-rewritten echo ran
cp /bin/busybox /tmp/busybox-moved
tell moved /tmp/busybox-moved echo ran
";

/// Waits for the verdict on this path.
async fn scanned(scene: &Scene<'_>, subject: &str, verdict: ScanVerdict) -> anyhow::Result<ScanStatus> {
    let scan = |finding: &RuntimeFinding| finding.status.as_ref().and_then(|status| status.scan.clone());
    let done = |finding: &RuntimeFinding| {
        finding.spec.subject == subject && scan(finding).is_some_and(|scan| scan.phase != ScanPhase::Pending)
    };
    let finding = scene.finding(&format!("{subject}, scanned"), FOUND, done).await?;
    let scan = scan(&finding).context("no scan")?;
    ensure!(scan.phase == ScanPhase::Done && scan.verdict == Some(verdict), "{subject}: {scan:?}");
    ensure!(
        scan.summary == verdict.to_string() && scan.finished_at.is_some() && scan.attempts >= 1,
        "{subject}: {scan:?}"
    );
    Ok(scan)
}

/// It names the component that the file belongs to.
fn names_busybox(subject: &str, scan: &ScanStatus) -> Told {
    ensure!(scan.component.as_deref() == Some("pkg:generic/busybox"), "{subject}: {scan:?}");
    Ok(())
}

#[tokio::test]
async fn a_scan_holds_what_ran_against_the_images_signed_sbom() {
    scenario("scan", async |scene| {
        let image = Workload::push_for_drift(scene.stage(), "scan", "1", "runtime")?.signed_once(TEAM)?;
        let app = pod(scene, "app", &image.reference().tagged());
        let policy = json!({
            "mode": "Audit", "admission": scene.signed_by(TEAM)?, "runtime": {"drift": {"action": "Audit"}},
        });
        observed(scene, app, policy).await?;
        for (name, said) in told(scene, "app", ACT)? {
            ensure!(said == "0 ran", "{name} said {said:?}");
        }
        scanned(scene, "/tmp/busybox-new", ScanVerdict::Unknown).await?;
        names_busybox("rewritten", &scanned(scene, "/srv/busybox-rewritten", ScanVerdict::Modified).await?)?;
        names_busybox("moved", &scanned(scene, "/tmp/busybox-moved", ScanVerdict::Known).await?)
    })
    .await;
}
