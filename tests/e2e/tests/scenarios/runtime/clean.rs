//! Ordinary work gives no finding.

use anyhow::ensure;
use serde_json::json;
use zastava_crds::wire::event::{DriftClass, Severity};

use super::{Expected, found, image, observed, pod, told};
use crate::ground::scenario;

/// What a container does all day.
const WORK: &str = r#"
i=0
while [ $i -lt 1000 ]; do /bin/true || exit 1; i=$((i + 1)); done
for tool in /bin/* /sbin/* /usr/bin/* /usr/sbin/*; do "$tool" --help </dev/null >/dev/null 2>&1; done

mkdir -p /tmp/work/bin /data/work
seq 1000 | /usr/bin/sort -r | /usr/bin/head -n 3 >/tmp/work/sorted
/bin/tar -C /etc -cf /data/work/etc.tar passwd group
/bin/gzip -f /data/work/etc.tar
/usr/bin/find /etc /srv -type f -exec /usr/bin/wc -c {} + >/dev/null
printf 'a b\n' | /bin/sed s/b/c/ | /usr/bin/awk '{print $2}' >/tmp/work/field
ln -s /bin/busybox /tmp/work/bin/date
/tmp/work/bin/date >/dev/null
cd /srv && ./script.sh && ./busybox-chmod true
/srv/busybox-chmod sh -c '/bin/sleep 0.1 & wait'
/usr/sbin/chroot / /bin/true
/usr/bin/env FOO=bar /usr/bin/nice -n 1 /bin/sh -c '/usr/bin/id' >/dev/null
/usr/bin/odd >/dev/null 2>&1
cp /bin/busybox /tmp/work/bin/never-executed
chmod 0700 /tmp/work/bin/never-executed
rm -r /tmp/work /data/work
tell work echo done
"#;

/// What comes last and gives findings: one for each way that a record takes, plain execs and scripts from the kernel,
/// high and low severity to the intake.
const LAST: &str = r"
fresh /tmp/busybox-last
tell high /tmp/busybox-last echo ran
chmod 0700 /srv/busybox-chmod
tell low /srv/busybox-chmod echo ran
printf '#!/bin/sh\necho ran\n' >/tmp/last.sh
chmod 0755 /tmp/last.sh
tell high-script /tmp/last.sh
chmod 0700 /srv/script.sh
tell low-script /srv/script.sh
";

/// What comes after that: its report goes out when that of the rest was dealt with.
const VERY_LAST: &str = r"
chmod 0700 /srv/busybox-chmod-again
tell again /srv/busybox-chmod-again echo ran
";

#[tokio::test]
async fn ordinary_work_gives_no_finding() {
    scenario("clean", async |scene| {
        let mut app = pod(scene, "app", &image(scene)?);
        let probe =
            json!({"exec": {"command": ["/bin/sh", "-c", "/bin/true"]}, "periodSeconds": 1, "timeoutSeconds": 10});
        app["spec"]["containers"][0]["livenessProbe"] = probe;
        observed(scene, app, json!({"mode": "Audit", "runtime": {"drift": {"action": "Audit"}}})).await?;
        let work = scene.shell("app", &format!("{}{WORK}", super::WORDS))?;
        ensure!(work.success && work.stdout.ends_with("work 0 done\n"), "the work was not done: {work:?}");
        told(scene, "app", LAST)?;

        let mut expected = vec![
            Expected::once("/tmp/busybox-last", DriftClass::New, Severity::High),
            Expected::once("/srv/busybox-chmod", DriftClass::CopiedUp, Severity::Low),
            Expected::once("/tmp/last.sh", DriftClass::New, Severity::High),
            Expected::once("/srv/script.sh", DriftClass::CopiedUp, Severity::Low),
        ];
        found(scene, &expected).await?;
        told(scene, "app", VERY_LAST)?;
        expected.push(Expected::once("/srv/busybox-chmod-again", DriftClass::CopiedUp, Severity::Low));
        found(scene, &expected).await?;
        Ok(())
    })
    .await;
}
