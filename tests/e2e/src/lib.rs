//! The test cluster and the scenarios' language: a real Kubernetes on this machine, images, signatures, and waiting
//! for what should come true.

pub mod cluster;
pub mod command;
pub mod error;
pub mod image;
pub mod tools;
