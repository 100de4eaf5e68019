//! Whether each exec is accounted for, as the observers' metrics say.

use std::time::Duration;

use anyhow::Context as _;
use zastava_e2e::metrics::Metrics;
use zastava_e2e::scene::Scene;
use zastava_e2e::wait::{Seen, until};

use super::victim::observers;
use crate::ground::Told;

const OBSERVERS: &str = "zastava-observer";
/// Both counts are read every few seconds, and only a moment without an exec shows them equal.
const SOON: Duration = Duration::from_mins(1);

/// Waits until on every node the probe counted what the kernel counted itself, and of what was counted each exec has
/// its end.
pub async fn balanced(scene: &Scene<'_>) -> Told {
    for pod in observers(scene.client()).await? {
        let name = pod.metadata.name.context("a pod without a name")?;
        until(&format!("the accounts of {name} are balanced"), SOON, async || {
            let metrics = Metrics::of_pod(scene.stage(), OBSERVERS, &name)?;
            Ok(if metrics.balanced() { Seen::There(()) } else { Seen::NotYet(format!("{metrics:#?}")) })
        })
        .await?;
    }
    Ok(())
}
