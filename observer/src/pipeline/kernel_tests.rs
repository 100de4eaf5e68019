//! The whole way from a real kernel to a store. Needs root.

mod already;
mod classes;
mod ground;
mod handover;
mod libraries;
mod noise;
mod reference;
mod runtime;
mod self_test;
