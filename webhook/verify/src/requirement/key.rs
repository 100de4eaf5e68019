//! Public keys: P-256, P-384, Ed25519 and RSA from 2,048 bits.

use sigstore_crypto::{
    KeyAlgorithm, SigningScheme, VerificationKey, validate_raw_public_key, verify_signature_prehashed,
};
use sigstore_types::{DerPublicKey, HashAlgorithm, SignatureBytes};
use zastava_crds::digest::Sha256Digest;

/// A public key that was parsed and is of a kind we verify with.
#[derive(Clone)]
pub struct PublicKey {
    spki: DerPublicKey,
    fingerprint: Sha256Digest,
    schemes: &'static [SigningScheme],
}

/// Text that is no public key we verify with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// No PEM block `PUBLIC KEY`.
    #[error("not a PEM public key (-----BEGIN PUBLIC KEY-----): {0}")]
    Pem(String),
    /// Another algorithm, or a key too weak.
    #[error("not a usable public key: {0}; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits")]
    Algorithm(String),
}

impl KeyError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Pem(_) => "key_pem",
            Self::Algorithm(_) => "key_algorithm",
        }
    }
}

impl PublicKey {
    /// From a PEM block `PUBLIC KEY` (SubjectPublicKeyInfo).
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let spki = DerPublicKey::from_pem(pem.trim()).map_err(|e| KeyError::Pem(e.to_string()))?;
        let unusable = |e: sigstore_crypto::Error| KeyError::Algorithm(e.to_string());
        // Several schemes, because signers choose the hash: cosign hashes with SHA-256 whatever the curve, other clients with the curve's own.
        let schemes: &'static [SigningScheme] = match KeyAlgorithm::from_spki(&spki).map_err(unusable)? {
            KeyAlgorithm::EcdsaP256 => &[SigningScheme::EcdsaP256Sha256],
            KeyAlgorithm::EcdsaP384 => &[SigningScheme::EcdsaP384Sha384, SigningScheme::EcdsaP384Sha256],
            KeyAlgorithm::Ed25519 => &[SigningScheme::Ed25519],
            KeyAlgorithm::Rsa => &[SigningScheme::RsaPkcs1Sha256, SigningScheme::RsaPssSha256],
            other => return Err(KeyError::Algorithm(format!("{other:?}"))),
        };
        for scheme in schemes {
            let key = VerificationKey::from_spki_with_scheme(&spki, *scheme).map_err(unusable)?;
            validate_raw_public_key(*scheme, key.as_bytes()).map_err(unusable)?;
        }
        let fingerprint = Sha256Digest::of(spki.as_bytes());
        Ok(Self { spki, fingerprint, schemes })
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> &Sha256Digest {
        &self.fingerprint
    }

    /// First digits of the fingerprint, for people.
    pub fn short(&self) -> String {
        format!("key {}", &self.fingerprint.hex()[..12])
    }

    pub(crate) fn spki(&self) -> &DerPublicKey {
        &self.spki
    }

    /// Whether exactly this key signed bytes of this digest. `None`: its kind signs the bytes themselves.
    pub(crate) fn verifies_digest(&self, digest: &Sha256Digest, signature: &SignatureBytes) -> Option<bool> {
        let hash = sigstore_types::Sha256Hash::from_hex(digest.hex()).ok()?;
        let of_sha256 = |scheme: &&SigningScheme| {
            scheme.supports_prehashed() && scheme.hash_algorithm() == Some(HashAlgorithm::Sha2256)
        };
        let mut schemes = self.schemes.iter().filter(of_sha256).peekable();
        schemes.peek()?;
        Some(schemes.any(|scheme| verify_signature_prehashed(&self.spki, hash.as_slice(), signature, *scheme).is_ok()))
    }

    /// Whether exactly this key signed exactly these bytes.
    pub fn verifies(&self, message: &[u8], signature: &SignatureBytes) -> bool {
        self.schemes.iter().any(|scheme| {
            VerificationKey::from_spki_with_scheme(&self.spki, *scheme)
                .is_ok_and(|key| key.verify(message, signature).is_ok())
        })
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint)
    }
}
