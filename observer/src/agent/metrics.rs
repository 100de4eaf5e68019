//! Metrics of what the node says of itself, and its status page.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use tokio::sync::watch;
use zastava_crds::wire::{
    event::LossReason,
    sync::{CoverageReason, NodeStatus, RuleSet},
};

use super::Board;
use crate::{
    journal::Journal,
    pipeline::{BPFFS, Observer},
    probe::features,
    sink::SinkMetrics,
};

const REASONS: [CoverageReason; 10] = [
    CoverageReason::NoBTF,
    CoverageReason::ProbeRefused,
    CoverageReason::ProbeDetached,
    CoverageReason::RuntimeGone,
    CoverageReason::JournalStuck,
    CoverageReason::LibrariesRefused,
    CoverageReason::Sandboxed,
    CoverageReason::NonOverlayRoot,
    CoverageReason::Unarmed,
    CoverageReason::MayNotKill,
];

/// Ends of an exec that is lost. All are told from the start: of a series that begins with its first loss nobody would
/// see it grow.
const LOST: [LossReason; 4] =
    [LossReason::RingFull, LossReason::Recursion, LossReason::PendingExpired, LossReason::JournalWrite];

#[derive(Debug)]
struct Node {
    status: watch::Receiver<Arc<NodeStatus>>,
    sink: SinkMetrics,
    observer: watch::Receiver<Option<Observer>>,
}

/// The journal, once it is open.
#[derive(Debug)]
struct Storage(watch::Receiver<Option<Journal>>);

/// Registers what is read at the moment it is asked for.
pub(super) fn register(registry: &mut Registry, board: &Board, status: watch::Receiver<Arc<NodeStatus>>) {
    registry.register_collector(Box::new(Node {
        status,
        sink: board.sink.clone(),
        observer: board.observer.subscribe(),
    }));
    registry.register_collector(Box::new(Storage(board.journal.subscribe())));
}

impl Collector for Storage {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let journal = self.0.borrow().clone();
        journal.map_or(Ok(()), |journal| journal.collector().encode(encoder))
    }
}

impl Collector for Node {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.status.borrow().clone();
        let accounting = &status.accounting;
        let [drift, denied, libraries] = self.sink.counts();
        let kinds = [
            ("process_executed", accounting.executed),
            ("drift", drift),
            ("policy_violation", denied),
            ("library_loaded", libraries),
        ];
        let mut family = encoder.encode_descriptor(
            "zastava_runtime_events",
            "Events by the component that saw them and their kind",
            None,
            MetricType::Counter,
        )?;
        for (kind, count) in kinds {
            let labels = [("component", "observer"), ("kind", kind)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Execs that the probe was called for, by what became of them";
        let mut family = encoder.encode_descriptor("zastava_execs", help, None, MetricType::Counter)?;
        let ends = [("stored", accounting.stored), ("filtered", accounting.filtered), ("foreign", accounting.foreign)];
        for (result, count) in ends {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        let help = "Execs that were told together with others in one event, of a noisy container";
        let family = encoder.encode_descriptor("zastava_execs_combined", help, None, MetricType::Counter)?;
        ConstCounter::new(accounting.combined).encode(family)?;
        let help = "Execs that were lost, by reason";
        let mut family = encoder.encode_descriptor("zastava_execs_dropped", help, None, MetricType::Counter)?;
        let mut dropped: BTreeMap<&str, u64> = LOST.iter().map(|reason| (reason.into(), 0)).collect();
        dropped.extend(accounting.dropped.iter().map(|(reason, count)| (reason.as_str(), *count)));
        for (reason, count) in dropped {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        let help = "Executable mappings that were seen for policies that ask for libraries, by what became of them";
        let mut family = encoder.encode_descriptor("zastava_mappings", help, None, MetricType::Counter)?;
        let observed = self.observer.borrow().as_ref().map(Observer::observed);
        let observed = observed.map(|observed| observed.borrow().clone());
        for (result, count) in observed.iter().flat_map(|observed| &observed.mappings) {
            ConstCounter::new(*count).encode(family.encode_family(&[("result", *result)])?)?;
        }
        if let Some(compared) = observed.and_then(|observed| observed.reference) {
            let help = "Execs since this observer started, by who counted them: the kernel itself, or the probe";
            let mut family = encoder.encode_descriptor("zastava_execs_counted", help, None, MetricType::Counter)?;
            for (by, count) in [("kernel", compared.counted), ("probe", compared.executed)] {
                ConstCounter::new(count).encode(family.encode_family(&[("by", by)])?)?;
            }
        }
        let gauges = [
            ("zastava_execs_pending", "Execs on their way to the journal", accounting.pending),
            ("zastava_observing", "1 while the probe is attached and sees its self-test", u64::from(status.observing)),
            ("zastava_kill_armed", "1 while the kernel kills", u64::from(status.kill_armed)),
        ];
        for (name, help, value) in gauges {
            gauge(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let help = "Pods that some policy observes, by coverage";
        let mut family = encoder.encode_descriptor("zastava_coverage_pods", help, None, MetricType::Gauge)?;
        let coverage = status.coverage;
        for (level, pods) in [("full", coverage.full), ("partial", coverage.partial), ("none", coverage.none)] {
            gauge(u64::from(pods)).encode(family.encode_family(&[("coverage", level)])?)?;
        }
        let help = "1 for each reason why the node, or a pod of it, is not fully observed";
        let mut family = encoder.encode_descriptor("zastava_not_covered", help, None, MetricType::Gauge)?;
        for reason in REASONS {
            let name: &str = reason.into();
            let given = status.reasons.contains(&reason) || status.uncovered.iter().any(|pod| pod.reason == reason);
            gauge(u64::from(given)).encode(family.encode_family(&[("reason", name)])?)?;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The status page: what the intake is told, and the rules in force.
pub(super) fn about(
    status: watch::Receiver<Arc<NodeStatus>>,
    board: &Board,
) -> impl Fn() -> Value + Send + Sync + 'static {
    let features = features::probe(Path::new(BPFFS));
    for feature in &features {
        if let Some(missing) = &feature.missing {
            tracing::warn!(feature = feature.name, missing, "the kernel offers less");
        }
    }
    let (rules, settings): (watch::Receiver<Arc<RuleSet>>, _) = (board.rules.subscribe(), board.settings.clone());
    move || {
        let mut status = NodeStatus::clone(&status.borrow());
        let rules = rules.borrow().clone();
        status.rules_hash.clone_from(&rules.hash);
        let policies: Vec<&str> = rules.policies.iter().map(|rules| rules.policy.name.as_str()).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pod": settings.pod,
            "namespace": settings.namespace,
            "intake": settings.intake.url,
            "policies": policies,
            "kernel": features,
            "node": status,
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use zastava_crds::wire::{
        event::Severity,
        sync::{Accounting, UncoveredPod},
    };

    use super::*;
    use crate::{
        fixtures::drift,
        pipeline::{Lane, Store as _},
        sink::JournalSink,
    };

    #[test]
    fn what_is_counted_is_told_under_its_names() {
        let folder = tempfile::TempDir::new().unwrap();
        let journal = crate::fixtures::journal(folder.path());
        let mut registry = Registry::default();
        let sink = SinkMetrics::new(&mut registry);
        let accounting = Accounting {
            executed: 9,
            filtered: 8,
            stored: 1,
            combined: 1,
            dropped: [("recursion".into(), 2)].into(),
            ..Accounting::default()
        };
        let pod = UncoveredPod { namespace: "n".into(), pod: "p".into(), reason: CoverageReason::Sandboxed };
        let status = NodeStatus {
            accounting,
            reasons: vec![CoverageReason::NoBTF],
            uncovered: vec![pod],
            ..NodeStatus::default()
        };
        let (_told, told) = watch::channel(Arc::new(status));
        registry.register_collector(Box::new(Node {
            status: told,
            sink: sink.clone(),
            observer: watch::channel(None).1,
        }));
        let (_open, open) = watch::channel(Some(journal.clone()));
        registry.register_collector(Box::new(Storage(open)));
        let store = JournalSink::new(journal, sink);
        for _ in 0..2 {
            store.append(Lane::Urgent, &drift(1, Severity::High)).unwrap();
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "zastava_runtime_events_total{component=\"observer\",kind=\"process_executed\"} 9",
            "zastava_runtime_events_total{component=\"observer\",kind=\"drift\"} 1",
            "zastava_drift_events_total{type=\"New\"} 1",
            "zastava_execs_total{result=\"filtered\"} 8",
            "zastava_execs_combined_total 1",
            "zastava_not_covered{reason=\"NoBTF\"} 1",
            "zastava_not_covered{reason=\"Sandboxed\"} 1",
            "zastava_not_covered{reason=\"Unarmed\"} 0",
            "zastava_execs_dropped_total{reason=\"ring_full\"} 0",
            "zastava_execs_dropped_total{reason=\"recursion\"} 2",
            "zastava_journal_stored_total 1",
            "zastava_journal_capacity_bytes 134217728",
            "zastava_journal_pending{cursor=\"report\"} 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
    }
}
