//! Metrics as a program of Zastava prints them.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::stage::Stage;

/// Values by name and labels, whole numbers only.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    /// What a pod's port 8080 says now, asked through the API server.
    pub fn of_pod(stage: &Stage, namespace: &str, pod: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/metrics");
        Ok(Self::read(&stage.kubectl(&["get", "--raw", &path])?))
    }

    fn read(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        Self(lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// The value of exactly this name with these labels.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// The sum of all labels' values.
    pub fn sum(&self, name: &str) -> u64 {
        self.each(name).map(|(_, value)| value).sum()
    }

    /// Each value with its labels as they are written.
    pub fn each<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.0.iter().filter_map(move |(key, value)| {
            let labels = key.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }

    /// Execs by the probe's account: all of them, and those that have their end.
    pub fn execs(&self) -> (u64, u64) {
        let executed = self.get("zastava_runtime_events_total{component=\"observer\",kind=\"process_executed\"}");
        let ends = ["zastava_execs_total", "zastava_execs_pending", "zastava_execs_dropped_total"];
        (executed.unwrap_or(0), ends.iter().map(|name| self.sum(name)).sum())
    }

    /// Whether each exec that was counted has its end, and the kernel counted as many as the probe.
    pub fn balanced(&self) -> bool {
        let counted = |by| self.get(&format!("zastava_execs_counted_total{{by=\"{by}\"}}"));
        let (executed, ends) = self.execs();
        counted("kernel").is_some_and(|count| count > 0)
            && counted("kernel") == counted("probe")
            && executed > 0
            && executed == ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALANCED: &str = "# HELP x\n\
        zastava_runtime_events_total{component=\"observer\",kind=\"process_executed\"} 9\n\
        zastava_execs_total{result=\"stored\"} 2\nzastava_execs_total{result=\"filtered\"} 5\n\
        zastava_execs_pending 1\nzastava_execs_dropped_total{reason=\"ring_full\"} 1\n\
        zastava_execs_counted_total{by=\"kernel\"} 7\nzastava_execs_counted_total{by=\"probe\"} 7\n";

    #[test]
    fn accounts_are_balanced_when_every_exec_has_its_end_and_the_kernel_agrees() {
        let balanced = Metrics::read(BALANCED);
        assert!(balanced.balanced(), "{balanced:?}");
        assert_eq!(balanced.execs(), (9, 9));
        for (from, to) in
            [("filtered\"} 5", "filtered\"} 4"), ("kernel\"} 7", "kernel\"} 8"), ("kernel\"} 7\n", "other\"} 7\n")]
        {
            let other = Metrics::read(&BALANCED.replace(from, to));
            assert!(!other.balanced(), "{to}");
        }
        assert!(!Metrics::default().balanced());
    }
}
