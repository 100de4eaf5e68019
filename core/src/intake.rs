//! The client of the intake.
