//! Trust roots: the certificate authorities, logs and timestamp authorities that keyless and logged signatures live by.
//! They come from a policy's ConfigMap or are bundled; none is ever fetched.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;
use sigstore_trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot, trusted_root::CertChain};
use sigstore_types::TimeRange;
use sigstore_verify::Verifier;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zastava_crds::digest::Sha256Digest;

/// Bytes of a trusted root at most.
pub const MAX_TRUST_ROOT: usize = 256 * 1024;
/// Authorities and logs of one root at most.
const MAX_ENTRIES: usize = 64;
/// Certificates of one authority at most.
const MAX_CHAIN: usize = 16;

/// A trusted root, ready to verify with.
pub struct TrustRoot {
    verifier: Verifier,
    fingerprint: Sha256Digest,
    authorities: usize,
    logs: usize,
    certificate_logs: usize,
}

/// A text that is no trusted root to verify with.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrustRootError {
    /// Too long, or with too many entries.
    #[error("more than a trusted root may have: {0}")]
    TooLarge(String),
    /// Not the JSON of a trusted root.
    #[error("not a trusted_root.json: {0}")]
    Malformed(String),
    /// Its content can't be verified with.
    #[error("not a usable trusted root: {0}")]
    Unusable(String),
    /// It lacks what the authority needs.
    #[error("the trusted root lists no {0}, and a signature can't be verified without one: add it to the root")]
    Lacks(&'static str),
}

impl TrustRootError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "trust_root_too_large",
            Self::Malformed(_) => "trust_root_malformed",
            Self::Unusable(_) => "trust_root_unusable",
            Self::Lacks(_) => "trust_root_lacks",
        }
    }
}

impl TrustRoot {
    /// From the text of a `trusted_root.json`.
    pub fn from_json(text: &str) -> Result<Self, TrustRootError> {
        if text.len() > MAX_TRUST_ROOT {
            return Err(TrustRootError::TooLarge(format!("{} bytes, more than {MAX_TRUST_ROOT}", text.len())));
        }
        let malformed = |error: sigstore_trust_root::Error| TrustRootError::Malformed(short(&error));
        let mut root = TrustedRoot::from_json(text).map_err(malformed)?;
        let entries =
            [root.certificate_authorities.len(), root.timestamp_authorities.len(), root.tlogs.len(), root.ctlogs.len()];
        if let Some(many) = entries.into_iter().find(|count| *count > MAX_ENTRIES) {
            return Err(TrustRootError::TooLarge(format!("{many} entries of a kind, more than {MAX_ENTRIES}")));
        }
        for authority in &mut root.certificate_authorities {
            authority.valid_for = Some(narrowed(&authority.cert_chain, authority.valid_for)?);
        }
        for authority in &mut root.timestamp_authorities {
            authority.valid_for = Some(narrowed(&authority.cert_chain, authority.valid_for)?);
        }
        let verifier = Verifier::new(&root).map_err(|error| TrustRootError::Unusable(short(&error)))?;
        let [authorities, _, logs, certificate_logs] = entries;
        let fingerprint = Sha256Digest::of(text.as_bytes());
        Ok(Self { verifier, fingerprint, authorities, logs, certificate_logs })
    }

    /// The bundled root of Sigstore's public-good instance, as of this version's release.
    pub fn public_good() -> Result<Arc<Self>, TrustRootError> {
        static ROOT: OnceLock<Result<Arc<TrustRoot>, TrustRootError>> = OnceLock::new();
        ROOT.get_or_init(|| Self::from_json(SIGSTORE_PRODUCTION_TRUSTED_ROOT).map(Arc::new)).clone()
    }

    /// SHA-256 of its text.
    pub fn fingerprint(&self) -> &Sha256Digest {
        &self.fingerprint
    }

    pub(crate) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Whether certificates must be in a certificate log: where the root lists one.
    pub(crate) fn has_certificate_log(&self) -> bool {
        self.certificate_logs > 0
    }

    pub(crate) fn must_have_log(&self) -> Result<(), TrustRootError> {
        if self.logs == 0 { Err(TrustRootError::Lacks("transparency log (tlogs)")) } else { Ok(()) }
    }

    pub(crate) fn must_have_authority(&self) -> Result<(), TrustRootError> {
        let lacks = TrustRootError::Lacks("certificate authority (certificateAuthorities)");
        if self.authorities == 0 { Err(lacks) } else { Ok(()) }
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({})", self.fingerprint)
    }
}

impl PartialEq for TrustRoot {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for TrustRoot {}

/// The time in which an authority and every certificate of its chain are valid: the verifier takes each of them for a
/// trust anchor, and an anchor's own expiry is looked at by nobody (CVE-2026-24122).
fn narrowed(chain: &CertChain, window: Option<TimeRange>) -> Result<TimeRange, TrustRootError> {
    let unusable = |why: &str| TrustRootError::Unusable(why.to_owned());
    if chain.certificates.len() > MAX_CHAIN {
        let message = format!("{} certificates of one authority, more than {MAX_CHAIN}", chain.certificates.len());
        return Err(TrustRootError::TooLarge(message));
    }
    let mut start = window.map_or(Timestamp::MIN, |window| window.start);
    let mut end = window.and_then(|window| window.end);
    for certificate in &chain.certificates {
        let (_, certificate) = X509Certificate::from_der(certificate.raw_bytes.as_bytes())
            .map_err(|_| unusable("a certificate of an authority can't be read"))?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp());
        let validity = certificate.validity();
        let (from, until) = at(validity.not_before)
            .and_then(|from| Ok((from, at(validity.not_after)?)))
            .map_err(|_| unusable("a certificate of an authority is valid at no time that can be told"))?;
        start = start.max(from);
        end = Some(end.map_or(until, |end| end.min(until)));
    }
    if end.is_some_and(|end| end < start) {
        return Err(unusable("the certificates of one authority are at no time valid together"));
    }
    Ok(TimeRange::new(start, end))
}

fn short(error: &impl fmt::Display) -> String {
    error.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_root_can_be_verified_with() {
        let root = TrustRoot::public_good().unwrap();
        assert!(root.must_have_log().is_ok() && root.must_have_authority().is_ok() && root.has_certificate_log());
        assert!(Arc::ptr_eq(&root, &TrustRoot::public_good().unwrap()), "it is read once");
    }

    #[test]
    fn what_is_no_trusted_root_is_told() {
        assert!(matches!(TrustRoot::from_json("{"), Err(TrustRootError::Malformed(_))));
        assert!(matches!(TrustRoot::from_json(&" ".repeat(MAX_TRUST_ROOT + 1)), Err(TrustRootError::TooLarge(_))));
        let bare = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [], "certificateAuthorities": [], "ctlogs": [], "timestampAuthorities": []}"#;
        let bare = TrustRoot::from_json(bare).unwrap();
        assert!(bare.must_have_log().is_err() && bare.must_have_authority().is_err());
        let mut crowded: serde_json::Value = serde_json::from_str(SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
        let log = crowded["ctlogs"][0].clone();
        crowded["ctlogs"] = vec![log; MAX_ENTRIES + 1].into();
        assert!(matches!(TrustRoot::from_json(&crowded.to_string()), Err(TrustRootError::TooLarge(_))));
    }
}
