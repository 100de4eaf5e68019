//! Pins the digests of pods, and only of pods.

pub mod pin;
