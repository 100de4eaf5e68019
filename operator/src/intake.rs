//! The intake: where observers and webhooks report, and where observers hold their rules up to date.
//!
//! Order of data: a token → [`caller::Caller`] → a bounded body → [`crate::finding::Merger`] or
//! [`crate::nodes::NodeRegistry`]. Only the leader takes anything: another replica names it.

mod authenticate;
mod batch;
mod caller;
mod holds;
mod metrics;
mod reject;
mod reports;
mod review;
mod router;
mod serve;
mod sync;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use self::{
    caller::ServiceAccounts,
    metrics::IntakeMetrics,
    serve::{Rooms, serve},
};

/// Port of the intake.
pub const PORT: u16 = 9444;
