//! Keys whose signatures must be in a transparency log.

use sigstore_types::{Artifact, Bundle};
use sigstore_verify::PublicKeyVerificationPolicy;

use super::Rejected;
use crate::requirement::{PublicKey, Signer, TrustRoot};

/// Whether exactly this key signed the artifact, and a log of the root has it.
pub(super) fn signer(
    artifact: &Artifact<'_>,
    bundle: &Bundle,
    key: &PublicKey,
    root: &TrustRoot,
) -> Result<Signer, Rejected> {
    if bundle.signing_certificate().is_some() {
        return Err(Rejected::OtherKey);
    }
    let policy = PublicKeyVerificationPolicy::new(key.spki().clone());
    let result = root.verifier().verify(artifact.clone(), bundle, &policy).map_err(|error| match error.into() {
        Rejected::BadSignature => Rejected::OtherKey,
        other => other,
    })?;
    if bundle.verification_material.tlog_entries.is_empty() || !result.tlog_verified() {
        return Err(Rejected::NoLogEntry);
    }
    Ok(Signer::Key(key.fingerprint().clone()))
}
