//! The observer: what really runs on a node, judged against the images that were approved, kept and told.

#![deny(unsafe_code)]

pub mod agent;
pub mod confine;
pub mod containers;
pub mod drift;
pub mod facts;
#[cfg(test)]
mod fixtures;
pub mod journal;
pub mod kept;
pub mod pipeline;
pub mod probe;
pub mod report;
pub mod rules;
pub mod sink;
pub mod sync;
