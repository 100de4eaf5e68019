//! The engine against a registry on this machine that does as it is told, with signatures made by keys of the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod attestations;
mod bases;
mod bench;
mod bypasses;
mod configs;
mod cosign;
mod discovery;
mod double;
mod faults;
mod fuzz;
mod hostile;
mod indexes;
mod keyless;
mod keys;
mod layouts;
mod matrix;
mod recorded;
mod refusals;
mod registries;
mod sboms;
mod sharing;
mod signer;
mod sigstore;
mod times;
mod unknowns;
