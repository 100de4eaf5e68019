//! `make bench-admission`: what a verification costs, told apart from what the API server and the registry cost.
//! `make bench-observer`: what it costs to be observed, beside what others' sources of events cost.

mod admission;
mod client;
mod figures;
mod observer;
mod paired;
mod process;
mod registry;
mod setting;

pub use self::admission::{Extent, run as admission};
pub use self::observer::run as observer;
