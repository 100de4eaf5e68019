//! Kill: nothing of what drifts comes to a word, and nothing else dies.

use anyhow::ensure;
use serde_json::json;
use zastava_crds::wire::event::{DriftClass, Severity};
use zastava_e2e::scene::Scene;

use super::{Expected, found, image, observed, pod, told};
use crate::ground::{Told, alone};

/// What is killed before its first instruction.
const BEFORE: &str = r"
fresh /tmp/busybox-new
tell new /tmp/busybox-new echo ran
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
";

/// What only a look at its content, or at the script behind the interpreter, tells: it dies after it started, not at
/// the end of its minute.
const LATE: &str = r"
echo >>/srv/busybox-rewritten
tell rewritten timeout 60 /srv/busybox-rewritten tail -f /dev/null
printf '#!/bin/sh\nexec /usr/bin/tail -f /dev/null\n' >/tmp/script.sh
chmod 0755 /tmp/script.sh
tell script timeout 60 /tmp/script.sh
";

/// What lives: the image's own content, though its mode changed, and what the policy allows.
const SPARED: &str = r"
chmod 0700 /srv/busybox-chmod
tell chmod /srv/busybox-chmod echo ran
fresh /plugins/busybox-allowed
tell allowed /plugins/busybox-allowed echo ran
tell script /srv/script.sh
";

/// Exit code of a process that SIGKILL ended.
const KILLED: &str = "137";

/// A pod's only container is ready and has never ended.
async fn lives(scene: &Scene<'_>, name: &str) -> Told {
    let pod = scene.running(name).await?;
    let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    ensure!(
        statuses.len() == 1 && statuses.iter().all(|one| one.restart_count == 0),
        "{name} did not live on: {statuses:?}"
    );
    Ok(())
}

#[tokio::test]
async fn kill_leaves_no_output_and_spares_the_rest() {
    // Observers are replaced when the first policy kills, and when the last one is gone.
    alone("kill", async |scene| {
        let image = image(scene)?;
        let all = ["New", "CopiedUp", "Foreign", "Unnamed"];
        let policy = json!({
            "mode": "Enforce",
            "runtime": {"drift": {"action": "Kill", "kill": all, "allow": ["/plugins"]}},
        });
        let node = observed(scene, pod(scene, "before", &image), policy).await?;

        // It starts under Kill: its entrypoint and, from then on, what the kubelet executes in it.
        let mut app = pod(scene, "app", &image);
        app["spec"]["nodeName"] = json!(node);
        let command = json!(["/bin/true"]);
        let probe =
            json!({"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 10});
        for kind in ["readinessProbe", "livenessProbe"] {
            app["spec"]["containers"][0][kind] = probe.clone();
        }
        scene.create(app).await?.taken()?;
        scene.running("app").await?;

        for (name, said) in told(scene, "app", BEFORE)? {
            ensure!(said == KILLED, "{name} said {said:?}");
        }
        let direct = scene.exec("app", &["/tmp/busybox-new", "echo", "ran"])?;
        ensure!(!direct.success && direct.stdout.is_empty(), "executed from outside it said {direct:?}");
        for (name, said) in told(scene, "app", LATE)? {
            ensure!(said == KILLED, "{name} said {said:?}");
        }
        for (name, said) in told(scene, "app", SPARED)? {
            ensure!(said == "0 ran", "{name} said {said:?}");
        }
        for (name, said) in told(scene, "before", "fresh /tmp/busybox-new; tell new /tmp/busybox-new echo ran")? {
            ensure!(said == KILLED, "{name} in the pod that was there before said {said:?}");
        }

        let once = Expected::once;
        let before = |subject, class, severity| once(subject, class, severity).killed("before");
        found(
            scene,
            &[
                before("/tmp/busybox-new", DriftClass::New, Severity::High).times(2),
                before("/tmp/busybox-new", DriftClass::New, Severity::High).in_pod("before"),
                before("/data/busybox-volume", DriftClass::Foreign, Severity::Medium),
                before("/memfd:hidden", DriftClass::Unnamed, Severity::Critical),
                before("/tmp/busybox-unlinked", DriftClass::Unnamed, Severity::Critical),
                before("/data/root/busybox-chroot", DriftClass::Foreign, Severity::Medium),
                before("/tmp/own/merged/busybox", DriftClass::Foreign, Severity::Medium),
                once("/srv/busybox-rewritten", DriftClass::CopiedUp, Severity::High).killed("late"),
                once("/tmp/script.sh", DriftClass::New, Severity::High).killed("late"),
                once("/srv/busybox-chmod", DriftClass::CopiedUp, Severity::Low),
            ],
        )
        .await?;
        lives(scene, "before").await?;
        lives(scene, "app").await
    })
    .await;
}
