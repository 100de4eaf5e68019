//! Credentials for registries.

pub mod configured;
pub mod pull;
