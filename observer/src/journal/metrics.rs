//! The journal's metrics, read at the moment they are asked for.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use strum::IntoEnumIterator;

use super::{CursorName, Journal};

#[derive(Debug)]
struct Metrics(Journal);

impl Journal {
    /// What a metrics registry asks.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(Metrics(self.clone()))
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let journal = &self.0;
        let counts = journal.counts();
        let counters = [
            ("zastava_journal_stored", "Records stored", counts.stored),
            ("zastava_journal_repeats", "Records that were in the journal already", counts.repeats),
            ("zastava_journal_refused", "Records lost because there was no room", counts.refused),
            ("zastava_journal_evicted_segments", "Segments evicted", counts.evicted_segments),
            ("zastava_journal_syncs", "Syncs", counts.syncs),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let bytes = ConstGauge::new(i64::try_from(journal.bytes()).unwrap_or(i64::MAX));
        let help = "Bytes of the journal's segments";
        bytes.encode(encoder.encode_descriptor("zastava_journal_bytes", help, None, bytes.metric_type())?)?;
        let capacity = ConstGauge::new(i64::try_from(journal.capacity()).unwrap_or(i64::MAX));
        let help = "Bytes that the journal's segments may take";
        let family = encoder.encode_descriptor("zastava_journal_capacity_bytes", help, None, capacity.metric_type())?;
        capacity.encode(family)?;
        let help = "Records that a reader of the journal is not done with";
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let mut family = encoder.encode_descriptor("zastava_journal_pending", help, None, kind)?;
        for cursor in CursorName::iter() {
            let pending = ConstGauge::new(i64::try_from(journal.pending(cursor)).unwrap_or(i64::MAX));
            pending.encode(family.encode_family(&[("cursor", <&str>::from(cursor))])?)?;
        }
        Ok(())
    }
}
