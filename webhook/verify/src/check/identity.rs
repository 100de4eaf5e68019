//! The one place where a certificate's identity is matched. Whoever accepts a keyless signature does it through
//! [`signers`], which has no way to say yes without a match: that is what CVE-2025-29778 and its kin were about.

use sigstore_types::{Artifact, Bundle};
use sigstore_verify::VerificationPolicy;
use zastava_crds::digest::Sha256Digest;

use super::{By, Rejected};
use crate::requirement::{Identity, Signer, TrustRoot};

/// What a verified certificate claims.
#[derive(Clone)]
struct Claim {
    issuer: String,
    subject: String,
}

/// A keyless authority, with its place among all.
pub(super) struct Keyless<'a> {
    pub(super) index: usize,
    pub(super) identity: &'a Identity,
    pub(super) root: &'a TrustRoot,
}

/// Who among these signed the artifact; never nobody.
pub(super) fn signers(
    artifact: &Artifact<'_>,
    bundle: &Bundle,
    authorities: &[Keyless<'_>],
) -> Result<Vec<By>, Rejected> {
    let (mut by, mut nearest) = (Vec::new(), Rejected::Malformed);
    // The cryptography is that of the root, and done once for each.
    let mut claims: Vec<(&Sha256Digest, Result<Claim, Rejected>)> = Vec::new();
    for authority in authorities {
        let fingerprint = authority.root.fingerprint();
        let known = claims.iter().find(|(root, _)| *root == fingerprint).map(|(_, claim)| claim.clone());
        let claim = known.unwrap_or_else(|| {
            let claim = claim(artifact, bundle, authority.root);
            claims.push((fingerprint, claim.clone()));
            claim
        });
        match claim {
            Ok(Claim { issuer, subject }) if authority.identity.matches(&issuer, &subject) => {
                by.push(By { authority: authority.index, signer: Signer::Identity { issuer, subject } });
            }
            Ok(Claim { issuer, subject }) => nearest = nearest.max(Rejected::other_identity(&issuer, &subject)),
            Err(rejected) => nearest = nearest.max(rejected),
        }
    }
    if by.is_empty() { Err(nearest) } else { Ok(by) }
}

/// Verifies everything but who it is. Private: only [`signers`] may hold a claim that was not matched.
fn claim(artifact: &Artifact<'_>, bundle: &Bundle, root: &TrustRoot) -> Result<Claim, Rejected> {
    if bundle.signing_certificate().is_none() {
        return Err(Rejected::NoCertificate);
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "what comes of it is matched in `signers`, before it leaves this file"
    )]
    let mut policy = VerificationPolicy::any_identity();
    if !root.has_certificate_log() {
        #[expect(
            clippy::disallowed_methods,
            reason = "this root lists no certificate log, so nobody could have logged it"
        )]
        {
            policy = policy.skip_sct();
        }
    }
    let result = root.verifier().verify(artifact.clone(), bundle, &policy)?;
    if !result.certificate_verified() || !result.tlog_verified() {
        return Err(Rejected::UntrustedCertificate);
    }
    if result.verified_timestamps().is_empty() {
        return Err(Rejected::NoSigningTime);
    }
    match (result.issuer(), result.identity()) {
        (Some(issuer), Some(subject)) => Ok(Claim { issuer: issuer.to_owned(), subject: subject.as_str().to_owned() }),
        _ => Err(Rejected::other_identity("nobody", "nobody")),
    }
}
