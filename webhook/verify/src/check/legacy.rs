//! cosign's legacy layout: what it keeps beside a layer, folded into the material of a v0.1 bundle.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use sigstore_types::{
    Bundle, CanonicalizedBody, DerCertificate, InclusionPromise, KindVersion, LogId, LogIndex, LogKeyId, MediaType,
    PublicKeyIdentifier, Rfc3161Timestamp, SignatureContent, SignedTimestamp, TimestampToken,
    TimestampVerificationData, TransparencyLogEntry, VerificationMaterial, VerificationMaterialContent,
    X509Certificate,
};
use x509_parser::pem::Pem;

use super::{Rejected, bundle::MAX_INTERMEDIATES};
use crate::registry::Annotations;

/// `dev.sigstore.cosign/bundle`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LogBundle {
    signed_entry_timestamp: SignedTimestamp,
    payload: LogPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogPayload {
    body: CanonicalizedBody,
    integrated_time: i64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// `dev.sigstore.cosign/rfc3161timestamp`.
#[derive(Deserialize)]
struct Stamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    signed: TimestampToken,
}

/// A v0.1 bundle of a layer's content and what stands beside it.
pub(super) fn fold(content: SignatureContent, beside: &Annotations) -> Result<Bundle, Rejected> {
    let mut material = VerificationMaterial::new(match &beside.certificate {
        Some(leaf) => chain(leaf, beside.chain.as_deref())?,
        None => VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new("")),
    });
    if let Some(log) = &beside.log {
        material = material.with_tlog_entries(vec![entry(log)?]);
    }
    if let Some(stamp) = &beside.timestamp {
        let stamp: Stamp = serde_json::from_str(stamp).map_err(|_| Rejected::Malformed)?;
        let mut data = TimestampVerificationData::default();
        data.rfc3161_timestamps.push(Rfc3161Timestamp::new(stamp.signed));
        material = material.with_timestamp_verification_data(data);
    }
    Ok(Bundle::new(MediaType::Bundle0_1, material, content))
}

fn chain(leaf: &str, rest: Option<&str>) -> Result<VerificationMaterialContent, Rejected> {
    let mut certificates = certificates(leaf)?;
    if certificates.len() != 1 {
        return Err(Rejected::Malformed);
    }
    certificates.extend(rest.map(self::certificates).transpose()?.unwrap_or_default());
    if certificates.len() > 1 + MAX_INTERMEDIATES {
        return Err(Rejected::TooLarge);
    }
    Ok(VerificationMaterialContent::X509CertificateChain { certificates })
}

/// Certificates alone: a bare key in their place would skip the chain (GHSA-fx35-mq7g-6g98).
fn certificates(pem: &str) -> Result<Vec<X509Certificate>, Rejected> {
    let mut certificates = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()).take(2 + MAX_INTERMEDIATES) {
        let block = block.map_err(|_| Rejected::Malformed)?;
        if block.label != "CERTIFICATE" {
            return Err(Rejected::Malformed);
        }
        certificates.push(X509Certificate::new(DerCertificate::new(block.contents)));
    }
    Ok(certificates)
}

fn entry(log: &str) -> Result<TransparencyLogEntry, Rejected> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        kind: String,
        api_version: String,
    }
    let LogBundle { signed_entry_timestamp, payload } = serde_json::from_str(log).map_err(|_| Rejected::Malformed)?;
    let body: Body = serde_json::from_slice(payload.body.as_bytes()).map_err(|_| Rejected::Malformed)?;
    let kind = match (body.kind.as_str(), body.api_version.as_str()) {
        ("hashedrekord", "0.0.1") => KindVersion::HashedRekordV001,
        ("dsse", "0.0.1") => KindVersion::DsseV001,
        ("intoto", "0.0.2") => KindVersion::IntotoV002,
        _ => return Err(Rejected::Unsupported),
    };
    let log_id = hex::decode(&payload.log_id).map_err(|_| Rejected::Malformed)?;
    let index = LogIndex::new(payload.log_index).map_err(|_| Rejected::Malformed)?;
    let time = jiff::Timestamp::from_second(payload.integrated_time).map_err(|_| Rejected::Malformed)?;
    Ok(TransparencyLogEntry::new(index, LogId::new(LogKeyId::new(log_id)), kind, payload.body)
        .with_integrated_time(time)
        .with_inclusion_promise(InclusionPromise::new(signed_entry_timestamp)))
}

/// The signature that stands beside a payload.
pub(super) fn signature(beside: &Annotations) -> Result<sigstore_types::SignatureBytes, Rejected> {
    let text = beside.signature.as_deref().ok_or(Rejected::Malformed)?;
    STANDARD.decode(text.trim()).map(sigstore_types::SignatureBytes::new).map_err(|_| Rejected::Malformed)
}
