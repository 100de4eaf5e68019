//! Runtime facts: which files containers of an image really used, and how often, from events that were recorded.

mod aggregate;
mod replay;

pub use aggregate::{Aggregate, MAX_FACTS, Untold};
pub use replay::{MAX_EVENTS, ReplayError, replay};
