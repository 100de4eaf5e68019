//! Policies: read by a watch, judged, and told the truth about in their status.

mod store;

pub use self::store::Policies;
