//! The engine against a registry on this machine that does as it is told, with signatures made by keys of the test.

mod access;
mod bench;
mod cosign;
mod discovery;
mod double;
mod indexes;
mod keys;
mod refusals;
mod sboms;
mod sharing;
mod signer;
mod unknowns;
