//! Where a policy's references are looked up.

use std::sync::Arc;

use zastava_crds::policy::{Key, TrustRootRef};

use super::trust_root::TrustRoot;

/// Keys and trust roots that policies refer to. Everything is at hand already: nothing is fetched here.
pub trait TrustStore {
    /// The PEM text of a key (from `pem`, a Secret or a ConfigMap), or why it can't be had and what to do.
    fn key(&self, key: &Key) -> Result<String, String>;

    /// A trusted root in a ConfigMap, or why it can't be had and what to do.
    fn trust_root(&self, reference: &TrustRootRef) -> Result<Arc<TrustRoot>, String>;
}

/// Has what stands in the policy itself, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl TrustStore for Inline {
    fn key(&self, key: &Key) -> Result<String, String> {
        key.pem.clone().ok_or_else(|| "is in a Secret or ConfigMap, and no cluster is asked: set pem".to_owned())
    }

    fn trust_root(&self, reference: &TrustRootRef) -> Result<Arc<TrustRoot>, String> {
        Err(format!("ConfigMap {} is not at hand: no cluster is asked", reference.name))
    }
}
