//! Rules: from the cluster's rule set to what holds for one container.

mod allow;
mod decide;
mod image;
mod kernel;
mod register;
mod select;
mod set;

#[cfg(test)]
mod tests;

pub use decide::{Decision, Subject, spelled};
pub use image::canonical;
pub use kernel::Kernel;
pub use register::{Lookup, Register};
pub use set::{Policy, Rules};
