//! Admission: AdmissionReview in, decision out.

#![forbid(unsafe_code)]

mod cluster;
mod credentials;
mod decision;
mod engine;
#[cfg(test)]
mod fixtures;
mod metrics;
mod mutate;
mod policies;
mod report;
mod review;
#[cfg(test)]
mod scenarios;
mod server;
mod validate;

fn main() {}
