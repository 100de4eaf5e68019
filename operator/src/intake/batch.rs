//! A batch from its bytes: what can't be read of it is refused by itself.

use serde::Deserialize;
use serde_json::value::RawValue;
use zastava_crds::wire::report::{BatchMark, MAX_RECORDS, Report};

/// A batch; `None` is a record that can't be read.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) mark: BatchMark,
    pub(super) records: Vec<Option<Report>>,
}

/// Why a batch can't be taken at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchUnreadable {
    /// It is no batch.
    #[error("the body is no batch of reports: {0}")]
    Malformed(String),
    /// It has too many records.
    #[error("{0} records are more than {MAX_RECORDS}")]
    TooMany(usize),
}

impl BatchUnreadable {
    /// The closed class of this error, for metrics.
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooMany(_) => "too_many_records",
        }
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    mark: BatchMark,
    #[serde(borrow)]
    records: Vec<&'a RawValue>,
}

impl Batch {
    /// Reads the records one by one: one of a newer or a broken reporter must not hold up those behind it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BatchUnreadable> {
        let raw: Raw<'_> = serde_json::from_slice(bytes)
            .map_err(|error| BatchUnreadable::Malformed(format!("line {}, column {}", error.line(), error.column())))?;
        if raw.records.len() > MAX_RECORDS {
            return Err(BatchUnreadable::TooMany(raw.records.len()));
        }
        let records = raw.records.into_iter().map(|record| serde_json::from_str(record.get()).ok()).collect();
        Ok(Self { mark: raw.mark, records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::fixtures::{batch, drift};

    #[test]
    fn a_record_that_cannot_be_read_does_not_hold_up_the_others() {
        let mut body = serde_json::to_value(batch("node:a", 1, vec![drift("a"), drift("b"), drift("c")])).unwrap();
        body["records"][1] = serde_json::json!({"type": "telepathy", "what": [1, 2, {"x": null}]});
        let batch = Batch::read(body.to_string().as_bytes()).unwrap();
        let readable: Vec<_> = batch.records.iter().map(Option::is_some).collect();
        assert_eq!(readable, [true, false, true]);
        assert_eq!(batch.records[0], Some(drift("a")));
    }

    #[test]
    fn what_is_no_batch_is_refused_whole_and_told_where() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"mark": {"reporter": "x"}, "records": []}"#,
            r#"{"mark":{"reporter":"x","seq":1},"records":{}}"#,
        ] {
            assert!(matches!(Batch::read(bad.as_bytes()), Err(BatchUnreadable::Malformed(_))), "{bad}");
        }
        let many = vec![drift("a"); MAX_RECORDS + 1];
        let body = serde_json::to_vec(&batch("node:a", 1, many)).unwrap();
        assert_eq!(Batch::read(&body).unwrap_err(), BatchUnreadable::TooMany(MAX_RECORDS + 1));
    }
}
