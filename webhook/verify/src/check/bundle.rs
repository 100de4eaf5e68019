//! Bundles: read twice, loosely for a keyed check and strictly for all that needs a certificate or a log, and held to say
//! the same both times.

use serde::{Deserialize, de::IgnoredAny};
use sigstore_types::{DsseEnvelope, MediaType, MessageSignature, SignatureContent};

use super::Rejected;

// The bounds that sigstore-go took after CVE-2024-45395.
const MAX_LOG_ENTRIES: usize = 32;
const MAX_TIMESTAMPS: usize = 32;
/// Intermediates of one certificate at most: longer chains only cost time (CVE-2026-32280).
pub(super) const MAX_INTERMEDIATES: usize = 10;

/// A bundle as far as a keyed check reads it; log entries, timestamps and certificates are counted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Loose {
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    dsse_envelope: Option<DsseEnvelope>,
    message_signature: Option<MessageSignature>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    #[serde(default)]
    tlog_entries: Vec<IgnoredAny>,
    timestamp_verification_data: Option<Timestamps>,
    x509_certificate_chain: Option<Chain>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timestamps {
    #[serde(default)]
    rfc3161_timestamps: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chain {
    #[serde(default)]
    certificates: Vec<IgnoredAny>,
}

/// What a bundle carries.
pub(super) enum Content {
    /// A signed statement.
    Envelope(DsseEnvelope),
    /// A signature over an artifact's bytes.
    Message(MessageSignature),
}

/// Reads what is signed, within the bounds.
pub(super) fn content(bytes: &[u8]) -> Result<Content, Rejected> {
    let bundle: Loose = serde_json::from_slice(bytes).map_err(|_| Rejected::Malformed)?;
    if !is_bundle(&bundle.media_type) {
        return Err(Rejected::Malformed);
    }
    let material = bundle.verification_material;
    if material.tlog_entries.len() > MAX_LOG_ENTRIES
        || material.timestamp_verification_data.is_some_and(|data| data.rfc3161_timestamps.len() > MAX_TIMESTAMPS)
        || material.x509_certificate_chain.is_some_and(|chain| chain.certificates.len() > 1 + MAX_INTERMEDIATES)
    {
        return Err(Rejected::TooLarge);
    }
    match (bundle.dsse_envelope, bundle.message_signature) {
        (Some(envelope), None) => Ok(Content::Envelope(envelope)),
        (None, Some(message)) => Ok(Content::Message(message)),
        _ => Err(Rejected::Malformed),
    }
}

/// Reads the whole, which must carry the same content.
pub(super) fn strictly(bytes: &[u8], content: &Content) -> Result<sigstore_types::Bundle, Rejected> {
    // What read loosely and does not read strictly has entries of a kind that nobody here verifies.
    let bundle: sigstore_types::Bundle = serde_json::from_slice(bytes).map_err(|_| Rejected::Unsupported)?;
    let same = match (&bundle.content, content) {
        (SignatureContent::DsseEnvelope(one), Content::Envelope(other)) => one == other,
        (SignatureContent::MessageSignature(one), Content::Message(other)) => one == other,
        _ => false,
    };
    if same { Ok(bundle) } else { Err(Rejected::Malformed) }
}

/// Media types of bundles, v0.1 to v0.3.
pub(crate) fn is_bundle(media_type: &str) -> bool {
    media_type.parse::<MediaType>().is_ok()
}
