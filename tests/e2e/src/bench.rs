//! `make bench-admission`: what a verification costs, told apart from what the API server and the registry cost.

mod admission;
mod client;
mod figures;
mod process;
mod registry;
mod setting;

pub use self::admission::{Extent, run as admission};
