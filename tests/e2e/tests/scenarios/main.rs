//! Zastava on a real cluster: one shared cluster with one installation, a namespace and a policy for each scenario.

#![allow(clippy::panic, reason = "a scenario that fails does so by panicking, as every test")]

mod admission;
mod attestations;
mod decisions;
mod discovery;
mod ground;
mod install;
mod loops;
mod operate;
mod posture;
mod runtime;
mod verdict;
