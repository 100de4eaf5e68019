//! At rest, and after the last policy.

use std::time::Duration;

use anyhow::ensure;
use zastava_e2e::wait::{Seen, until};

use super::writes::{Writes, versions};
use super::{MADE, both_ends, gone, pods_start, refuses, signed, unsigned};
use crate::ground::alone;

/// Without a write for so long, the work that came before is done.
const SETTLED: Duration = Duration::from_secs(4);
/// How long nothing may be written: longer than the half minute in which counters may wait for their turn.
const REST: Duration = Duration::from_secs(32);

#[tokio::test]
async fn at_rest_nothing_is_written_and_the_last_policy_takes_all_with_it() {
    // Alone: what other policies ask for is written as well, and keeps things that this one would leave.
    alone("rest", async |scene| {
        let stage = scene.stage();
        let (signed, unsigned) = (signed(scene)?, unsigned(scene)?);
        // The pod first: what is counted later is told later, half a minute after the last time.
        scene.run("app", &signed).await?;
        scene.policy(both_ends(scene)?).await?;

        let mut writes = Writes::from_now(stage)?;
        until("the work is done", Duration::from_secs(90), async || {
            let before = versions(stage).map_err(text)?;
            tokio::time::sleep(SETTLED).await;
            let mut seen = changed(&before, &versions(stage).map_err(text)?);
            if let Some(writes) = &mut writes {
                seen.extend(writes.since().map_err(text)?);
            }
            Ok(if seen.is_empty() { Seen::There(()) } else { Seen::NotYet(seen.join("; ")) })
        })
        .await?;
        let before = versions(stage)?;
        tokio::time::sleep(REST).await;
        let changed = changed(&before, &versions(stage)?);
        ensure!(changed.is_empty(), "changed at rest: {}", changed.join("; "));
        if let Some(writes) = &mut writes {
            let written = writes.since()?;
            ensure!(written.is_empty(), "written at rest: {}", written.join("; "));
        }

        refuses(scene, &unsigned).await?;
        scene.remove_policy().await?;
        pods_start(scene, &unsigned, Duration::from_secs(20)).await?;
        for part in ["webhook", "observer"] {
            let labels =
                format!("{},app.kubernetes.io/component={part},app.kubernetes.io/managed-by!=Helm", super::OWN);
            let workloads = MADE.replace("configmaps,secrets,", "");
            gone(stage, &workloads, &labels, Duration::from_mins(1)).await?;
        }
        Ok(())
    })
    .await;
}

/// What is in one list and not in the other.
fn changed(before: &[String], after: &[String]) -> Vec<String> {
    after
        .iter()
        .filter(|one| !before.contains(one))
        .chain(before.iter().filter(|one| !after.contains(one)))
        .cloned()
        .collect()
}

fn text(error: impl Into<anyhow::Error>) -> zastava_e2e::error::Error {
    zastava_e2e::error::Error::Invalid(format!("{:#}", error.into()))
}
