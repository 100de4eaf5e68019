//! Whether the images of a request satisfy one policy.

pub mod judge;
pub mod live;
pub mod scope;
pub mod unmatched;
