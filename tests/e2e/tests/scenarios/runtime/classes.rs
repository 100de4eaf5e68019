//! Each way to execute what is not the image's content has its class.

use anyhow::{Context as _, ensure};
use serde_json::json;
use zastava_crds::wire::event::{DriftClass, Severity};

use super::{Expected, found, image, observed, pod, told};
use crate::ground::scenario;

/// One exec of each kind. All of them run: the mode is Audit.
const ACT: &str = r#"
fresh /tmp/busybox-new
for i in 1 2 3; do tell new$i /tmp/busybox-new echo ran; done

# Of the same size, with its times put back: only the content tells.
touch -r /srv/busybox-rewritten /tmp/times
last=$(($(stat -c %s /srv/busybox-rewritten) - 1))
printf x | dd of=/srv/busybox-rewritten bs=1 seek=$last conv=notrunc 2>/dev/null
touch -r /tmp/times /srv/busybox-rewritten
tell rewritten /srv/busybox-rewritten echo ran

chmod 0700 /srv/busybox-chmod
tell chmod /srv/busybox-chmod echo ran
chmod 0700 /usr/bin/tac
tell hardlink /usr/bin/tac /proc/self/comm

cp /bin/busybox /data/busybox-volume
tell volume /data/busybox-volume echo ran
tell memfd odd memfd hidden /bin/busybox echo ran
fresh /tmp/busybox-unlinked
tell unlinked odd unlinked /tmp/busybox-unlinked echo ran
mkdir /data/root
cp /bin/busybox /data/root/busybox-chroot
tell chroot chroot /data/root /busybox-chroot echo ran
mkdir /tmp/own
tell overlay odd overlay /tmp/own /bin/busybox echo ran
printf '#!/bin/sh\necho ran\n' >/tmp/script.sh
chmod 0755 /tmp/script.sh
tell script /tmp/script.sh

cp /usr/bin/odd /tmp/odd-deleted
echo >>/tmp/odd-deleted
echo "new-sha256 0 $(sha256sum /tmp/busybox-new)"
echo "deleted-sha256 0 $(sha256sum /tmp/odd-deleted)"
/tmp/odd-deleted leave </dev/null >/dev/null 2>&1 &
"#;

#[tokio::test]
async fn drift_is_told_by_where_the_content_came_from() {
    scenario("classes", async |scene| {
        let app = pod(scene, "app", &image(scene)?);
        observed(scene, app, json!({"mode": "Audit", "runtime": {"drift": {"action": "Kill"}}})).await?;
        let told = told(scene, "app", ACT)?;
        for (name, said) in told.iter().filter(|(name, _)| !name.ends_with("sha256")) {
            let wanted = if name == "hardlink" { "0 tac" } else { "0 ran" };
            ensure!(said == wanted, "{name} said {said:?}: Audit lets everything run");
        }

        let once = Expected::once;
        let findings = found(
            scene,
            &[
                once("/tmp/busybox-new", DriftClass::New, Severity::High).would_kill().times(3),
                once("/tmp/odd-deleted", DriftClass::New, Severity::High).would_kill(),
                once("/srv/busybox-rewritten", DriftClass::CopiedUp, Severity::High),
                once("/srv/busybox-chmod", DriftClass::CopiedUp, Severity::Low),
                once("/usr/bin/tac", DriftClass::CopiedUp, Severity::Low),
                once("/data/busybox-volume", DriftClass::Foreign, Severity::Medium),
                once("/memfd:hidden", DriftClass::Unnamed, Severity::Critical).would_kill(),
                once("/tmp/busybox-unlinked", DriftClass::Unnamed, Severity::Critical).would_kill(),
                once("/data/root/busybox-chroot", DriftClass::Foreign, Severity::Medium),
                once("/tmp/own/merged/busybox", DriftClass::Foreign, Severity::Medium),
                once("/tmp/script.sh", DriftClass::New, Severity::High).would_kill(),
            ],
        )
        .await?;
        // Read from the layer after the process had gone, and from the process after the name had.
        for (finding, name) in findings.iter().zip(["new-sha256", "deleted-sha256"]) {
            let evidence =
                finding.status.as_ref().and_then(|status| status.evidence.as_ref()).context("no evidence")?;
            let read = evidence.sha256.as_ref().map(|hash| format!("0 {}", hash.hex()));
            let wanted =
                told.get(name).and_then(|said| said.rsplit_once(' ')).map(|(hash, _)| hash.trim_end().to_owned());
            ensure!(read == wanted, "{name}: read {read:?}, not {wanted:?}: {}", evidence.message);
        }
        Ok(())
    })
    .await;
}
