//! Findings: reports merged into one object for one thing, each record counted exactly once.
//!
//! Order of data: a batch → [`attribute`] each record → group by key → [`merge`] each group in one write under the
//! batch's mark → receipt. Every step may fail or be cut off; the batch then comes again and adds only what is missing.

pub mod attribute;
pub mod cause;
mod expire;
mod keep;
mod key;
mod mark;
mod merge;
mod metrics;
mod plan;
mod sighting;
pub mod store;

#[cfg(test)]
pub(crate) mod model;

pub use self::{
    keep::{caps, duration, start},
    key::{FindingKey, Standing},
    merge::{BatchError, Merger},
    metrics::FindingMetrics,
    plan::Caps,
};
