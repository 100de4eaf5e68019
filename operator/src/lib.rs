//! The operator: it deploys observer and webhook as policies ask, keeps their certificates, and tells the truth about
//! them in each policy's status.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod backoff;
pub mod certificates;
#[cfg(test)]
mod fake;
pub mod finding;
pub mod intake;
pub mod leader;
pub mod metrics;
pub mod networks;
pub mod nodes;
pub mod pods;
pub mod policy;
pub mod posture;
pub mod program;
pub mod rollout;
pub mod scan;
pub mod serving;

/// Field manager of all that the operator applies. Never renamed: fields of an old name would be nobody's to remove.
pub const FIELD_MANAGER: &str = "zastava-operator";
/// Field manager of status writes.
pub const STATUS_MANAGER: &str = "zastava-operator-status";
