//! Keyed signatures: whether exactly one of the given keys signed a statement about exactly this image.
//!
//! This is the narrow path for `transparencyLog: Ignore`: sigstore-verify refuses a key-signed bundle without log entry or
//! timestamp (`MissingSigningTimeEvidence`), which is what cosign writes offline. Keys come from the policy alone: a
//! certificate or key hint in a bundle is not looked at. Nothing of a payload is read before its signature holds.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};
use sigstore_types::{DsseEnvelope, SignatureBytes, Subject};
use zastava_crds::digest::Sha256Digest;

use crate::requirement::ResolvedAuthority;

/// The predicate of a signature as cosign 3 writes it.
pub(crate) const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const SIMPLE_SIGNING: &str = "cosign container image signature";
// The bounds that sigstore-go took after CVE-2024-45395.
const MAX_LOG_ENTRIES: usize = 32;
const MAX_SUBJECTS: usize = 1024;
const MAX_SUBJECT_DIGESTS: usize = 32;

/// Why something that was found is no signature for the image, from a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::Display)]
pub(crate) enum Rejected {
    /// It can't be read.
    #[strum(serialize = "malformed")]
    Malformed,
    /// None of the accepted keys made it.
    #[strum(serialize = "made by another key")]
    OtherKey,
    /// An accepted key signed it, for another image.
    #[strum(serialize = "made for another image")]
    OtherImage,
    /// An accepted key signed it, and it says something else than asked.
    #[strum(serialize = "an attestation of another type")]
    OtherPredicate,
    /// More subjects, digests or log entries than allowed.
    #[strum(serialize = "over the bounds")]
    TooLarge,
    /// A kind that is not verified, such as a signature over the bytes of a file.
    #[strum(serialize = "of a kind that is not verified")]
    Unsupported,
}

/// What is asked of a signed statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    /// cosign's signature.
    Signature,
    /// A bill of materials in any form that is read.
    Sbom,
    /// Exactly this predicate type.
    Predicate(&'a str),
}

impl Wanted<'_> {
    pub(crate) fn accepts(self, predicate_type: &str) -> bool {
        match self {
            Self::Signature => predicate_type == SIGN_PREDICATE,
            Self::Sbom => is_sbom(predicate_type),
            Self::Predicate(exact) => predicate_type == exact,
        }
    }
}

/// Predicate types of bills of materials: as cosign and other attestors write them, with or without a version.
fn is_sbom(predicate_type: &str) -> bool {
    ["https://cyclonedx.org/bom", "https://spdx.dev/Document"]
        .iter()
        .filter_map(|known| predicate_type.strip_prefix(known))
        .any(|rest| rest.is_empty() || rest.starts_with("/v"))
}

/// A signed statement about the image: who signed it, and its bytes. Only the checks below make one.
#[derive(Debug)]
pub(crate) struct Signed {
    /// Indexes of the authorities whose keys signed it; never empty.
    by: Vec<usize>,
    payload: Vec<u8>,
}

impl Signed {
    /// Who signed, among those it was checked against.
    pub(crate) fn by<'a>(&self, keys: &'a [ResolvedAuthority]) -> impl Iterator<Item = &'a ResolvedAuthority> {
        self.by.iter().filter_map(|index| keys.get(*index))
    }

    /// What was signed.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// A bundle as far as it concerns a keyed check; log entries are counted and not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    dsse_envelope: Option<DsseEnvelope>,
    message_signature: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    #[serde(default)]
    tlog_entries: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    type_: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    type_: String,
    image: SignedImage,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SignedImage {
    docker_manifest_digest: String,
}

/// A Sigstore bundle of any version, with a DSSE envelope.
pub(crate) fn bundle(
    bytes: &[u8],
    wanted: Wanted<'_>,
    image: &Sha256Digest,
    keys: &[ResolvedAuthority],
) -> Result<Signed, Rejected> {
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|_| Rejected::Malformed)?;
    if !is_bundle(&bundle.media_type) {
        return Err(Rejected::Malformed);
    }
    if bundle.verification_material.tlog_entries.len() > MAX_LOG_ENTRIES {
        return Err(Rejected::TooLarge);
    }
    match (bundle.dsse_envelope, bundle.message_signature) {
        (Some(envelope), None) => dsse(&envelope, wanted, image, keys),
        (None, Some(_)) => Err(Rejected::Unsupported),
        _ => Err(Rejected::Malformed),
    }
}

/// A bare DSSE envelope, as legacy `.att` tags carry it.
pub(crate) fn envelope(
    bytes: &[u8],
    wanted: Wanted<'_>,
    image: &Sha256Digest,
    keys: &[ResolvedAuthority],
) -> Result<Signed, Rejected> {
    let envelope: DsseEnvelope = serde_json::from_slice(bytes).map_err(|_| Rejected::Malformed)?;
    dsse(&envelope, wanted, image, keys)
}

/// A legacy signature: `payload` is the layer's bytes, `signature` its annotation.
pub(crate) fn simple_signing(
    payload: &[u8],
    signature: &str,
    image: &Sha256Digest,
    keys: &[ResolvedAuthority],
) -> Result<Signed, Rejected> {
    let signature = SignatureBytes::new(STANDARD.decode(signature.trim()).map_err(|_| Rejected::Malformed)?);
    let by = signers(payload, &signature, keys)?;
    let document: SimpleSigning = serde_json::from_slice(payload).map_err(|_| Rejected::Malformed)?;
    if document.critical.type_ != SIMPLE_SIGNING {
        return Err(Rejected::OtherPredicate);
    }
    if document.critical.image.docker_manifest_digest != image.as_str() {
        return Err(Rejected::OtherImage);
    }
    Ok(Signed { by, payload: payload.to_vec() })
}

fn dsse(
    envelope: &DsseEnvelope,
    wanted: Wanted<'_>,
    image: &Sha256Digest,
    keys: &[ResolvedAuthority],
) -> Result<Signed, Rejected> {
    let by = signers(&envelope.pae(), &envelope.signature.sig, keys)?;
    if envelope.payload_type != IN_TOTO {
        return Err(Rejected::OtherPredicate);
    }
    let payload = envelope.payload.as_bytes();
    let statement: Statement = serde_json::from_slice(payload).map_err(|_| Rejected::Malformed)?;
    if !STATEMENTS.contains(&statement.type_.as_str()) {
        return Err(Rejected::Malformed);
    }
    if statement.subject.len() > MAX_SUBJECTS || statement.subject.iter().any(|s| digests(s) > MAX_SUBJECT_DIGESTS) {
        return Err(Rejected::TooLarge);
    }
    if !wanted.accepts(&statement.predicate_type) {
        return Err(Rejected::OtherPredicate);
    }
    let names_image =
        |subject: &Subject| subject.digest.sha256.as_ref().is_some_and(|hash| hash.to_hex() == image.hex());
    if !statement.subject.iter().any(names_image) {
        return Err(Rejected::OtherImage);
    }
    Ok(Signed { by, payload: payload.to_vec() })
}

fn digests(subject: &Subject) -> usize {
    let digest = &subject.digest;
    usize::from(digest.sha256.is_some()) + usize::from(digest.sha512.is_some()) + digest.other.len()
}

/// The authorities whose keys made this signature over these bytes; never none.
fn signers(message: &[u8], signature: &SignatureBytes, keys: &[ResolvedAuthority]) -> Result<Vec<usize>, Rejected> {
    let by: Vec<_> = keys
        .iter()
        .enumerate()
        .filter(|(_, authority)| authority.key.verifies(message, signature))
        .map(|(index, _)| index)
        .collect();
    if by.is_empty() { Err(Rejected::OtherKey) } else { Ok(by) }
}

/// Media types of bundles, v0.1 to v0.3.
pub(crate) fn is_bundle(media_type: &str) -> bool {
    media_type.parse::<sigstore_types::MediaType>().is_ok()
}
