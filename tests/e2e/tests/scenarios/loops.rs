//! From a node to a finding and back: who is believed, and that each thing counts once.

mod accounts;
mod burst;
mod exact;
mod intake;
pub mod victim;
