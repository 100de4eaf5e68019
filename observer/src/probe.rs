//! The probe: what runs in the kernel, how it is pinned and adopted, and the way its records come up.

pub mod error;
pub mod features;
pub mod load;
#[allow(unsafe_code, reason = "memory that is shared with the kernel")]
mod mapped;
pub mod mapping;
#[allow(unsafe_code, reason = "plain structs are handed to the kernel as bytes")]
pub mod maps;
#[allow(unsafe_code, reason = "perf events have no safe interface")]
pub mod perf;
pub mod pins;
pub mod record;
pub mod reference;
pub mod ring;
pub mod settle;

pub use error::ProbeError;
pub use load::{Probe, Settings, attach};
pub use maps::Maps;
pub use pins::Pins;
