//! The test cluster and the scenarios' language: a real Kubernetes on this machine, images, signatures, and waiting
//! for what should come true.

pub mod bench;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod error;
pub mod image;
pub mod metrics;
pub mod product;
pub mod registry;
pub mod release;
pub mod scanner;
pub mod scene;
pub mod signer;
pub mod stage;
pub mod tools;
pub mod wait;
pub mod workload;
