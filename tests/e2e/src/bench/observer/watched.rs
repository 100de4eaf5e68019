//! The observer of the one node, as its process and its metrics tell of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::bench::process::Process;
use crate::error::{At as _, Error, Result};
use crate::metrics::Metrics;
use crate::stage::Stage;
use crate::wait::{Seen, until};

/// Namespace of the observers.
pub const NAMESPACE: &str = "zastava-observer";
/// How long an observer may take to come or to go.
const SOON: Duration = Duration::from_mins(1);

/// An observer that observes.
pub struct Watched {
    /// Its pod.
    pub pod: String,
    process: Process,
}

/// What its container takes of the node's memory, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Charged {
    /// All of it, rings and maps included.
    pub total: u64,
    /// Of it pages of files, which the kernel takes back when it needs them.
    pub files: u64,
}

/// Renewals of a count since it was first looked at.
#[derive(Debug, Default)]
struct Renewals {
    last: Option<u64>,
    seen: u32,
}

impl Renewals {
    /// Whether this count was read after the first look: the first renewal may have been on its way then, the second
    /// was not.
    fn see(&mut self, count: u64) -> bool {
        if self.last.replace(count).is_some_and(|last| last != count) {
            self.seen += 1;
        }
        self.seen >= 2
    }
}

/// Where a controller accounts for it: version 1 or version 2.
enum Cgroup {
    Own(PathBuf),
    Unified(PathBuf),
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).at(path)
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map_or(0, number)
}

async fn pods(client: &Client) -> Result<Vec<Pod>> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    Ok(pods.list(&ListParams::default()).await?.items)
}

impl Watched {
    /// Waits for the one that is there.
    pub async fn there(stage: &Stage, client: &Client) -> Result<Self> {
        until("the observer observes", SOON, async || {
            let all = pods(client).await?;
            let [pod] = &all[..] else { return Ok(Seen::NotYet(format!("{} pods", all.len()))) };
            let pod = pod.name_any();
            let metrics = Metrics::of_pod(stage, NAMESPACE, &pod)?;
            if metrics.get("zastava_observing") != Some(1) {
                return Ok(Seen::NotYet(format!("{metrics:?}")));
            }
            let process = Process::of_pod("zastava-observer", &pod)?;
            Ok(Seen::There(Self { pod, process }))
        })
        .await
    }

    /// Waits until none is left: it takes the probe out of the kernel before it goes.
    pub async fn gone(client: &Client) -> Result<()> {
        until("no observer is left", SOON, async || {
            let all = pods(client).await?;
            Ok(if all.is_empty() { Seen::There(()) } else { Seen::NotYet(format!("{} pods", all.len())) })
        })
        .await
    }

    /// Its metrics.
    pub fn metrics(&self, stage: &Stage) -> Result<Metrics> {
        Metrics::of_pod(stage, NAMESPACE, &self.pod)
    }

    /// Waits until its accounts are balanced, as they are now: what it shows is as old as the last renewal, and balanced
    /// accounts of before the end of a load would leave out the load's end.
    pub async fn balanced(&self, stage: &Stage) -> Result<Metrics> {
        let mut renewals = Renewals::default();
        until("the accounts are balanced", SOON, async || {
            let metrics = self.metrics(stage)?;
            // Each look is an exec on this machine, so each renewal shows.
            let fresh = renewals.see(metrics.execs().0);
            let there = fresh && metrics.balanced();
            Ok(if there { Seen::There(metrics) } else { Seen::NotYet(format!("{metrics:?}")) })
        })
        .await
    }

    /// Waits until it looks at mappings.
    pub async fn looks_at_libraries(&self, stage: &Stage, act: impl Fn() -> Result<()>) -> Result<()> {
        let before = self.metrics(stage)?.sum("zastava_mappings_total");
        until("mappings are looked at", SOON, async || {
            act()?;
            let now = self.metrics(stage)?.sum("zastava_mappings_total");
            Ok(if now > before { Seen::There(()) } else { Seen::NotYet(format!("{now} mappings")) })
        })
        .await
    }

    /// Processor time of its container so far, its self-tests included.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(match self.cgroup("cpuacct")? {
            Cgroup::Own(folder) => Duration::from_nanos(number(&read(&folder.join("cpuacct.usage"))?)),
            Cgroup::Unified(folder) => Duration::from_micros(field(&read(&folder.join("cpu.stat"))?, "usage_usec")),
        })
    }

    /// Memory of its container.
    pub fn memory(&self) -> Result<Charged> {
        let (folder, usage, files) = match self.cgroup("memory")? {
            Cgroup::Own(folder) => (folder, "memory.usage_in_bytes", "cache"),
            Cgroup::Unified(folder) => (folder, "memory.current", "file"),
        };
        let total = number(&read(&folder.join(usage))?);
        let files = field(&read(&folder.join("memory.stat"))?, files);
        Ok(Charged { total: total / 1024, files: files / 1024 })
    }

    fn cgroup(&self, controller: &str) -> Result<Cgroup> {
        let path = PathBuf::from(format!("/proc/{}/cgroup", self.process.id()));
        let text = read(&path)?;
        // A line is ID:CONTROLLERS:PATH; version 2 has no controllers.
        let of = |wanted: &str| {
            text.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|one| one == wanted).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let root = Path::new("/sys/fs/cgroup");
        if let Some(path) = of(controller) {
            return Ok(Cgroup::Own(root.join(controller).join(path)));
        }
        let path = of("").ok_or_else(|| Error::Invalid(format!("{} has no cgroup", path.display())))?;
        Ok(Cgroup::Unified(root.join(path)))
    }

    /// From the process's start to its first own exec that came through the ring, as its log tells.
    pub fn start_to_first_event(&self, stage: &Stage) -> Result<Option<Duration>> {
        let log = stage.kubectl(&["logs", "-n", NAMESPACE, &self.pod])?;
        let at = |message: &str| {
            let line = log.lines().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                line["message"].as_str()?.starts_with(message).then(|| line["timestamp"].clone())
            })?;
            line.as_str()?.parse::<jiff::Timestamp>().ok()
        };
        let (Some(start), Some(first)) = (at("starting"), at("the self-test's record came")) else { return Ok(None) };
        Ok(first.duration_since(start).try_into().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_of_now_at_the_second_renewal_since_the_first_look() {
        let mut renewals = Renewals::default();
        let fresh: Vec<bool> = [5, 5, 6, 6, 8, 8].into_iter().map(|count| renewals.see(count)).collect();
        assert_eq!(fresh, [false, false, false, false, true, true]);
    }
}
