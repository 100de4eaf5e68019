//! The journal: what was seen survives kill -9, power loss, a full disk and a flipped byte, or its
//! loss is counted. A folder holds one two-slot file with the cursors and one segment file for each stretch of a stream.

mod batch;
mod clock;
pub mod cursor;
mod disk;
mod error;
mod evict;
pub mod inspect;
mod limits;
pub mod measure;
mod metrics;
mod open;
mod record;
mod seen;
mod segment;
mod slots;
mod store;
mod stream;
mod sync;

#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod dice;
#[cfg(test)]
mod platter;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;

pub use batch::{Batch, BatchBound};
pub use cursor::{CursorName, LossWindow};
pub use error::JournalError;
pub use limits::{Limits, MAX_RECORD_BYTES};
pub use open::Recovery;
pub use record::RecordId;
pub use store::{Appended, Counts, Journal};
pub use stream::{Stream, StreamError};
