//! Admission: from an AdmissionReview to its answer. The webhook serves it; the command line replays it.
//!
//! Order of data: [`server`] takes a request → [`review`] reads what it asks → [`policies`] say what is asked of its
//! images → [`mutate`] pins, [`validate`] judges through the [`engine`] → [`decision`] answers → [`report`] tells it.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod credentials;
pub mod decision;
pub mod engine;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod fuzz;
pub mod metrics;
pub mod mutate;
pub mod policies;
pub mod report;
pub mod review;
#[cfg(test)]
mod scenarios;
pub mod server;
pub mod validate;
pub mod warm;
