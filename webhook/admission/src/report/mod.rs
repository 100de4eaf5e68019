//! Denials and would-be denials on their way to the intake.

pub mod intake;
pub mod queue;
