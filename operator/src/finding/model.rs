//! A model of the intake's exactness: reporters, receipts that get lost, leaders that change, writes that fail or are
//! cut off half way, and views that lag. Whatever happens, each record is counted once.

mod caps;
mod exactly_once;
pub(crate) mod pods;
pub(crate) mod records;
pub(crate) mod store;
