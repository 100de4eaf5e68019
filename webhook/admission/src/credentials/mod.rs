//! Credentials for registries.

pub mod pull;
