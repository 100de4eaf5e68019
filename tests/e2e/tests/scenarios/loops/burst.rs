//! A burst of drift whose size is known, and its count in the findings.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use zastava_crds::finding::{FindingType, RuntimeFinding};
use zastava_e2e::error::Result;
use zastava_e2e::scene::Scene;
use zastava_e2e::wait::{Seen, until};
use zastava_e2e::workload::Workload;

use crate::ground::Told;

/// The pod in which it happens.
pub const POD: &str = "app";
/// Dropped files: so many findings, so that one batch is written in many writes.
const FILES: u32 = 16;
/// What all their paths begin with; busybox goes by this name whatever follows it.
const PATH: &str = "/tmp/busybox-";
/// How long a finding may take.
const SOON: Duration = Duration::from_mins(1);

/// A burst in a pod. It goes on until it is told to stop, so that whatever dies dies in the middle of it.
pub struct Burst<'a> {
    scene: &'a Scene<'a>,
}

impl<'a> Burst<'a> {
    /// A pod that is observed, with the dropped files in it.
    pub async fn prepare(scene: &'a Scene<'a>) -> anyhow::Result<Self> {
        let image = Workload::push(scene.stage(), &format!("{}-app", scene.namespace()), "1", "burst")?;
        scene.run(POD, &image.reference().tagged()).await?;
        // After the pod: Ready then speaks of the pod's node.
        scene.policy(json!({"runtime": {"drift": {"action": "Audit"}}})).await?;
        let drop = format!(
            "set -e; cp /bin/busybox {PATH}1; echo >>{PATH}1; for n in $(seq 2 {FILES}) mark; do ln {PATH}1 {PATH}$n; done"
        );
        scene.shell(POD, &drop)?.stdout()?;
        let burst = Self { scene };
        burst.mark(1).await?;
        Ok(burst)
    }

    /// Starts it: a round is one exec of each file, and rounds have `pause` seconds between them.
    pub async fn start(&self, pause: &str) -> Told {
        let round = format!("for n in $(seq {FILES}); do {PATH}$n true; done; sleep {pause}; rounds=$((rounds+1))");
        let run = format!(
            "rounds=0; until [ -e /tmp/stop ]; do {round}; done; echo $rounds >/tmp/rounds && mv /tmp/rounds /tmp/ended"
        );
        // A session of its own: it goes on when this exec, or the API server, is gone.
        self.scene.shell(POD, &format!("setsid sh -c '{run}' </dev/null >/dev/null 2>&1 &"))?.stdout()?;
        self.is_counted_on(0).await
    }

    /// How many of its execs are in findings.
    pub async fn counted(&self) -> Result<u64> {
        let findings = self.scene.findings().await?;
        Ok(findings.iter().filter(|finding| is_of_burst(finding)).map(count).sum())
    }

    /// Waits until more of it is counted than that.
    pub async fn is_counted_on(&self, from: u64) -> Told {
        until(&format!("more than {from} are counted"), SOON, async || {
            let counted = self.counted().await?;
            Ok(if counted > from { Seen::There(()) } else { Seen::NotYet(format!("{counted} are counted")) })
        })
        .await?;
        Ok(())
    }

    /// Stops it, and returns how many execs it was.
    async fn stop(&self) -> anyhow::Result<u64> {
        self.scene.shell(POD, "touch /tmp/stop")?.stdout()?;
        let rounds = until("the burst ends", SOON, async || {
            let said = self.scene.shell(POD, "cat /tmp/ended")?;
            Ok(match said.stdout.trim().parse::<u64>() {
                Ok(rounds) => Seen::There(rounds),
                Err(_) => Seen::NotYet(said.stderr),
            })
        })
        .await?;
        Ok(rounds * u64::from(FILES))
    }

    /// Stops it, and holds its count against its size.
    pub async fn is_exact(&self, within: Duration) -> Told {
        let total = self.stop().await?;
        until(&format!("all {total} are counted"), within, async || {
            let counted = self.counted().await?;
            Ok(if counted == total { Seen::There(()) } else { Seen::NotYet(format!("{counted} are counted")) })
        })
        .await?;
        // What comes after it on the same way is there: nothing of the burst is still to come.
        self.mark(2).await?;
        let counted = self.counted().await?;
        ensure!(counted == total, "{counted} are counted, {total} were executed");
        let findings = self.scene.findings().await?;
        let approximate =
            findings.iter().any(|finding| finding.status.as_ref().is_some_and(|status| status.approximate));
        ensure!(!approximate, "the count says of itself that it is approximate");
        Ok(())
    }

    /// Executes the file that is no part of the burst, and waits until that is counted for the `nth` time.
    async fn mark(&self, nth: u64) -> Told {
        let mark = format!("{PATH}mark");
        self.scene.exec(POD, &[&mark, "true"])?.stdout()?;
        self.scene
            .finding(&format!("mark {nth}"), SOON, |finding| finding.spec.subject == mark && count(finding) == nth)
            .await?;
        Ok(())
    }
}

fn is_of_burst(finding: &RuntimeFinding) -> bool {
    let number = finding.spec.subject.strip_prefix(PATH).and_then(|rest| rest.parse::<u32>().ok());
    finding.spec.type_ == FindingType::Drift && number.is_some()
}

fn count(finding: &RuntimeFinding) -> u64 {
    finding.status.as_ref().map_or(0, |status| status.count)
}
