//! Libraries: what processes map for execution that is not content of the image, where a policy asks for it.
//!
//! A perf event tells of every executable mapping of the node. It is open only while some container's policy wants it,
//! and what is looked at is bounded by a budget of its own, so that it never costs execs their place.

mod execs;
mod owner;
mod stream;
mod tally;

pub use execs::Execs;
pub use owner::{Owner, Owners};
pub use stream::Stream;
pub use tally::{Fate, Tally};
