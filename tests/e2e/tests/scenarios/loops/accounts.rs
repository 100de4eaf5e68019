//! Whether each exec is accounted for, as the observers' metrics say.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
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
            let path = format!("/api/v1/namespaces/{OBSERVERS}/pods/{name}:8080/proxy/metrics");
            let metrics = Metrics::read(&scene.stage().kubectl(&["get", "--raw", &path])?);
            let counted = |by| metrics.0.get(&format!("zastava_execs_counted_total{{by=\"{by}\"}}")).copied();
            let executed =
                metrics.sum("zastava_runtime_events_total{component=\"observer\",kind=\"process_executed\"}");
            let ends = ["zastava_execs_total", "zastava_execs_pending", "zastava_execs_dropped_total"];
            let ends: u64 = ends.iter().map(|name| metrics.sum(name)).sum();
            let (kernel, probe) = (counted("kernel"), counted("probe"));
            let balanced = kernel.is_some_and(|count| count > 0) && kernel == probe && executed > 0 && executed == ends;
            let seen = format!("kernel {kernel:?}, probe {probe:?}, executed {executed}, ends {ends}");
            Ok(if balanced { Seen::There(()) } else { Seen::NotYet(seen) })
        })
        .await?;
    }
    Ok(())
}

/// Values by name and labels.
struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    fn read(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        Self(lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Of all labels, where `name` has none.
    fn sum(&self, name: &str) -> u64 {
        let of = |key: &str| key == name || key.strip_prefix(name).is_some_and(|labels| labels.starts_with('{'));
        self.0.iter().filter(|(key, _)| of(key)).map(|(_, value)| value).sum()
    }
}
