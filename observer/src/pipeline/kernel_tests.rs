//! The whole way from a real kernel to a store. Needs root.

mod already;
mod classes;
pub mod ground;
mod handover;
mod libraries;
mod mapped;
mod noise;
mod reference;
mod runtime;
mod self_test;
mod stuck;
