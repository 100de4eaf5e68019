//! Minting: a CA, and leaves issued by it.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, pem::parse_x509_pem, prelude::FromDer};

/// Life of an authority.
pub const CA_LIFE: Duration = Duration::from_secs(365 * DAY);
/// Life of a leaf.
pub const LEAF_LIFE: Duration = Duration::from_secs(30 * DAY);
/// Certificates begin this long ago, for clocks that are behind.
const BACKDATE: Duration = Duration::from_mins(5);
const DAY: u64 = 24 * 3600;

/// Why a certificate can't be read or made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library refused.
    #[error("certificate can't be made: {0}")]
    Mint(#[from] rcgen::Error),
    /// Not a PEM certificate.
    #[error("certificate can't be read: {0}")]
    Read(String),
    /// Not a usable DNS name.
    #[error("{0:?} is not a DNS name")]
    Name(String),
}

impl CertificateError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Mint(_) => "mint",
            Self::Read(_) => "read",
            Self::Name(_) => "name",
        }
    }
}

/// A certificate as it is told apart and judged, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, PEM.
    pub pem: String,
    /// Subject's name, DER: unique for each authority of ours.
    pub subject: Vec<u8>,
    /// Issuer's name, DER.
    pub issuer: Vec<u8>,
    /// SHA-256 of the certificate's DER, hex.
    pub fingerprint: String,
    /// When it was made.
    pub minted_at: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Issued {
    /// Reads one PEM certificate; what follows it is ignored.
    ///
    /// # Errors
    /// [`CertificateError::Read`] for anything else.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|e| CertificateError::Read(e.to_string()))?;
        let mut issued = Self::from_der(&block.contents)?;
        pem.trim().clone_into(&mut issued.pem);
        issued.pem.push('\n');
        Ok(issued)
    }

    /// Reads one DER certificate; `pem` stays empty.
    ///
    /// # Errors
    /// [`CertificateError::Read`] for anything else.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, cert) = X509Certificate::from_der(der).map_err(|e| CertificateError::Read(e.to_string()))?;
        let at = |seconds| Timestamp::from_second(seconds).map_err(|e| CertificateError::Read(e.to_string()));
        Ok(Self {
            pem: String::new(),
            subject: cert.subject().as_raw().to_vec(),
            issuer: cert.issuer().as_raw().to_vec(),
            fingerprint: hex::encode(Sha256::digest(der)),
            minted_at: at(cert.validity().not_before.timestamp() + i64::try_from(BACKDATE.as_secs()).unwrap_or(0))?,
            not_after: at(cert.validity().not_after.timestamp())?,
        })
    }

    /// Less than a third of its life is left.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let life = self.not_after.as_second() - self.minted_at.as_second();
        self.not_after.as_second() - now.as_second() < life / 3
    }

    /// It has ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.not_after
    }

    /// How long ago it was made.
    pub fn age(&self, now: Timestamp) -> Duration {
        Duration::from_secs(u64::try_from(now.as_second() - self.minted_at.as_second()).unwrap_or(0))
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Authority {
    /// The certificate.
    pub cert: Issued,
    key_pem: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// [`CertificateError`] when the library refuses.
    pub fn mint(now: Timestamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // A name of its own for each authority: a leaf's issuer name then tells which one issued it.
        params.distinguished_name =
            named(&format!("zastava-ca {}", &hex::encode(Sha256::digest(key.public_key_raw()))[..16]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (date(now, -seconds(BACKDATE)), date(now, seconds(CA_LIFE)));
        let cert = params.self_signed(&key)?;
        Ok(Self { cert: Issued::from_pem(&cert.pem())?, key_pem: key.serialize_pem() })
    }

    /// An authority from its two PEM texts.
    ///
    /// # Errors
    /// [`CertificateError`] when either can't be read.
    pub fn from_pem(cert: &str, key: &str) -> Result<Self, CertificateError> {
        Issuer::from_ca_cert_pem(cert, KeyPair::from_pem(key)?)?;
        Ok(Self { cert: Issued::from_pem(cert)?, key_pem: key.to_owned() })
    }

    /// The key, PEM: for the Secret only.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Issues a server's leaf for these DNS names; it never outlives the authority.
    ///
    /// # Errors
    /// [`CertificateError`] when a name is no DNS name or the library refuses.
    pub fn issue(&self, names: &[String], now: Timestamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(names.first().map_or("zastava", String::as_str));
        params.subject_alt_names = names
            .iter()
            .map(|n| n.as_str().try_into().map(SanType::DnsName).map_err(|_| CertificateError::Name(n.clone())))
            .collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let end = seconds(LEAF_LIFE).min(self.cert.not_after.as_second() - now.as_second());
        (params.not_before, params.not_after) = (date(now, -seconds(BACKDATE)), date(now, end));
        let issuer = Issuer::from_ca_cert_pem(&self.cert.pem, KeyPair::from_pem(&self.key_pem)?)?;
        let cert = params.signed_by(&key, &issuer)?;
        Ok(Self { cert: Issued::from_pem(&cert.pem())?, key_pem: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.cert.fingerprint).finish_non_exhaustive()
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // RFC 5280 bounds a common name at 64 characters.
    name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
    name
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn date(now: Timestamp, offset: i64) -> time::OffsetDateTime {
    let at = now.as_second().saturating_add(offset);
    time::OffsetDateTime::from_unix_timestamp(at).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_ends_before_its_authority_and_names_it() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ca = Authority::mint(now).unwrap();
        let late = Timestamp::from_second(now.as_second() + 360 * 24 * 3600).unwrap();
        let leaf = ca.issue(&["zastava-webhook.zastava-system.svc".into()], late).unwrap();
        assert_eq!(leaf.cert.issuer, ca.cert.subject);
        assert_eq!(leaf.cert.not_after, ca.cert.not_after);
        assert_eq!(leaf.cert.minted_at, late);
        assert!(!ca.cert.is_due(now));
        assert!(ca.cert.is_due(late));
        assert!(matches!(ca.issue(&["not a name\u{e9}".into()], now), Err(CertificateError::Name(_))));
    }

    #[test]
    fn two_authorities_have_two_names() {
        let now = Timestamp::now();
        assert_ne!(Authority::mint(now).unwrap().cert.subject, Authority::mint(now).unwrap().cert.subject);
    }

    #[test]
    fn an_authority_survives_its_secret_and_a_key_is_never_printed() {
        let ca = Authority::mint(Timestamp::now()).unwrap();
        let again = Authority::from_pem(&ca.cert.pem, ca.key_pem()).unwrap();
        assert_eq!(again.cert, ca.cert);
        assert!(Authority::from_pem(&ca.cert.pem, "nonsense").is_err());
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }
}
