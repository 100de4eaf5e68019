//! The verification engine: what an image must prove, asked of its registry. It knows registries and signatures, and
//! nothing of Kubernetes.
//!
//! Order of data: [`image`] reference → [`verifier`] resolves it once → [`discover`] finds what is attached →
//! [`check`] holds it against [`requirement`] and its [`condition`]s → [`verdict`].

pub mod answer;
pub mod blob;
mod check;
pub mod condition;
pub mod credentials;
mod discover;
mod examine;
#[cfg(test)]
mod fuzz;
pub mod image;
pub mod keychain;
mod provenance;
pub mod registry;
pub mod requirement;
mod runnable;
pub mod sbom;
mod text;
pub mod verdict;
pub mod verifier;
