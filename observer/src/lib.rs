//! The observer: what really runs on a node, judged against the images that were approved, kept and told.

pub mod containers;
pub mod journal;
pub mod pipeline;
