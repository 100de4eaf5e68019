//! Zastava on a real cluster: one shared cluster with one installation, a namespace and a policy for each scenario.

mod admission;
mod ground;
mod install;
mod loops;
mod operate;
mod runtime;
