//! The two kinds of the API group, their conditions, and the contracts on the wire between Zastava's programs.

#![forbid(unsafe_code)]

pub mod canonical;
pub mod condition;
pub mod digest;
pub mod finding;
pub mod policy;
pub mod wire;

/// The API group of both kinds.
pub const GROUP: &str = "zastava.stella-ops.org";
/// The served version.
pub const VERSION: &str = "v1alpha1";
