//! The whole way from a real kernel to a store. Needs root.

mod already;
mod cases;
mod cgroups;
mod classes;
mod denied;
mod evasions;
pub mod ground;
mod handover;
mod kept;
mod libraries;
mod mapped;
mod noise;
mod reference;
mod runtime;
mod self_test;
mod stuck;
