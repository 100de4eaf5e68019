//! Policies as decisions need them: compiled once at a change, read without a lock.

pub mod globs;
pub mod keys;
pub mod policy;
pub mod snapshot;
pub mod sources;
