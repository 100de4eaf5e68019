//! Why something that was found is no signature for the image, from a closed set.

use std::fmt;

use sigstore_verify::{CertificateError, Error, TimestampError, TransparencyLogError, bundle::Error as Shape};

use crate::requirement::shown;

/// Why something that was found is no signature for the image. The later of two is nearer to a signature that counts,
/// and is what messages tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Rejected {
    /// It can't be read.
    Malformed,
    /// A kind that is not verified, such as a signature over the bytes of a file.
    Unsupported,
    /// More subjects, digests, log entries, timestamps or certificates than allowed.
    TooLarge,
    /// A key made it, and an identity was asked for.
    NoCertificate,
    /// None of the accepted keys made it.
    OtherKey,
    /// Its certificate's key did not make it.
    BadSignature,
    /// No entry in a transparency log.
    NoLogEntry,
    /// Neither log nor timestamp authority says when it was made.
    NoSigningTime,
    /// A log entry that does not hold, or of a log that the trust root does not know.
    BadLogEntry,
    /// A log entry of another signature, key or artifact.
    OtherLogEntry,
    /// A timestamp of no authority of the trust root, or outside its time.
    BadTimestamp,
    /// No authority of the trust root vouches for its certificate.
    UntrustedCertificate,
    /// The certificate is in no certificate log of the trust root.
    UnloggedCertificate,
    /// Made before or after its certificate, or the authority's, was valid.
    Expired,
    /// A valid certificate of the trust root that names somebody else.
    OtherIdentity {
        /// As messages show it.
        issuer: String,
        /// As messages show it.
        subject: String,
    },
    /// An accepted signer signed it, for another image.
    OtherImage,
    /// An accepted signer signed it, and it says something else than asked.
    OtherPredicate,
}

impl Rejected {
    /// A certificate that was verified, and names somebody who is not accepted.
    pub(super) fn other_identity(issuer: &str, subject: &str) -> Self {
        Self::OtherIdentity { issuer: shown(issuer), subject: shown(subject) }
    }

    /// The closed class.
    pub(crate) fn category(&self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Unsupported => "of a kind that is not verified",
            Self::TooLarge => "over the bounds",
            Self::NoCertificate => "made with a key, where an identity is asked for",
            Self::OtherKey => "made by another key",
            Self::BadSignature => "not made with the key of its certificate",
            Self::NoLogEntry => "without an entry in a transparency log",
            Self::NoSigningTime => "without proof of when it was made",
            Self::BadLogEntry => "with a log entry that does not hold or is of a log the trust root does not know",
            Self::OtherLogEntry => "with the log entry of another signature",
            Self::BadTimestamp => "with a timestamp that no authority of the trust root made in its time",
            Self::UntrustedCertificate => "under a certificate that the trust root does not vouch for",
            Self::UnloggedCertificate => "under a certificate that is in no certificate log of the trust root",
            Self::Expired => "made while its certificate or the certificate's authority was not valid",
            Self::OtherIdentity { issuer, subject } => {
                return write!(f, "signed by {issuer} as {subject}, not by an accepted identity");
            }
            Self::OtherImage => "made for another image",
            Self::OtherPredicate => "an attestation of another type",
        })
    }
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        match error {
            Error::SignatureInvalid(_) => Self::BadSignature,
            Error::ArtifactMismatch(_) => Self::OtherImage,
            Error::Certificate(error) => match error {
                // The chain is looked at before the leaf's own times, and only its text says that it was these.
                CertificateError::ChainInvalid(why)
                    if why.contains("CertExpired") || why.contains("CertNotValidYet") =>
                {
                    Self::Expired
                }
                CertificateError::ChainInvalid(_) => Self::UntrustedCertificate,
                CertificateError::Sct(_) => Self::UnloggedCertificate,
                CertificateError::NoValidAuthority { .. }
                | CertificateError::NotYetValid { .. }
                | CertificateError::Expired { .. } => Self::Expired,
                _ => Self::Malformed,
            },
            Error::TransparencyLog(error) => match error {
                TransparencyLogError::EntryMismatch(_) => Self::OtherLogEntry,
                TransparencyLogError::MalformedEntry(_) => Self::Malformed,
                _ => Self::BadLogEntry,
            },
            Error::Timestamp(TimestampError::NoVerifiedTimestamp(_)) => Self::NoSigningTime,
            Error::Timestamp(_) => Self::BadTimestamp,
            Error::Bundle(
                Shape::MissingSigningTimeEvidence | Shape::MissingInclusionPromise(_) | Shape::MissingInclusionProof(_),
            ) => Self::NoLogEntry,
            Error::UnsupportedBundle(_) | Error::UnsupportedArtifact(_) | Error::InvalidTrustRoot(_) => {
                Self::Unsupported
            }
            _ => Self::Malformed,
        }
    }
}
