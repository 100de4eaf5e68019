//! The whole way from a real kernel to a store. Needs root.

mod classes;
mod ground;
mod handover;
mod libraries;
mod noise;
mod runtime;
mod self_test;
