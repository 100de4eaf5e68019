//! Bundles about anything that has a digest: the same checks as for images, without a registry.

use zastava_crds::digest::Sha256Digest;

use crate::{
    check::{self, By, Rejected},
    requirement::{ResolvedAuthority, SignatureRequirement, Signers, standing},
};

/// A bundle that is longer is none.
pub const MAX_BUNDLE: usize = 32 * 1024 * 1024;

/// What a bundle is to be about.
#[derive(Clone, Copy, Debug)]
pub enum Blob<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Its digest alone: enough for all but Ed25519 signatures over the bytes themselves.
    Digest(&'a Sha256Digest),
}

/// A bundle that holds: who signed, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBlob {
    /// The blob's digest.
    pub digest: Sha256Digest,
    /// Who signed, by the labels of the authorities; never nobody.
    pub signed_by: Vec<String>,
    /// The predicate type, if a statement about the blob was signed. `None`: the blob itself.
    pub predicate_type: Option<String>,
}

/// A bundle that does not hold.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BlobError {
    /// What it is instead of a signature that counts.
    #[error("no signature that counts: found 1 {found}")]
    Rejected {
        /// The closed class.
        class: &'static str,
        /// In words.
        found: String,
    },
    /// Fewer authorities signed than the requirement asks: a bundle holds one signature.
    #[error("signed by {signers} of the {threshold} that are needed")]
    BelowThreshold {
        /// Distinct ones that signed.
        signers: usize,
        /// How many must have.
        threshold: usize,
    },
}

impl BlobError {
    /// The closed class, for metrics and scripts.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Rejected { class, .. } => class,
            Self::BelowThreshold { .. } => "below_threshold",
        }
    }
}

impl Blob<'_> {
    fn digest(&self) -> Sha256Digest {
        match self {
            Self::Bytes(bytes) => Sha256Digest::of(bytes),
            Self::Digest(digest) => (*digest).clone(),
        }
    }
}

/// Whether a Sigstore bundle of any version holds for a blob: the signature of an accepted key or identity over its
/// bytes, or over a statement whose subject it is.
///
/// # Errors
/// [`BlobError`], with what was found instead.
pub fn verify(bundle: &[u8], blob: Blob<'_>, signed_by: &SignatureRequirement) -> Result<VerifiedBlob, BlobError> {
    let authorities = signed_by.authorities();
    let digest = blob.digest();
    let (by, predicate_type) = checked(bundle, blob, &digest, authorities)
        .map_err(|rejected| BlobError::Rejected { class: rejected.category(), found: rejected.to_string() })?;
    let mut signers = Signers::new();
    for By { authority, signer } in &by {
        signers.entry(signer.clone()).or_default().push(*authority);
    }
    let standing = standing(&signers, authorities);
    if standing < signed_by.threshold() {
        return Err(BlobError::BelowThreshold { signers: standing, threshold: signed_by.threshold() });
    }
    let label = |by: &By| authorities.get(by.authority).map(|authority| authority.label_of(&by.signer));
    Ok(VerifiedBlob { digest, signed_by: by.iter().filter_map(label).collect(), predicate_type })
}

fn checked(
    bundle: &[u8],
    blob: Blob<'_>,
    digest: &Sha256Digest,
    authorities: &[ResolvedAuthority],
) -> Result<(Vec<By>, Option<String>), Rejected> {
    if bundle.len() > MAX_BUNDLE {
        return Err(Rejected::TooLarge);
    }
    check::blob(bundle, blob, digest, authorities)
}
