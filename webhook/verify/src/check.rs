//! Signatures: whether an accepted key or identity signed a statement about exactly this image.
//!
//! Keys without a log take the narrow path of [`keyed`]: sigstore-verify refuses a key-signed bundle that has neither log
//! entry nor timestamp, which is what cosign writes offline. All else goes through sigstore-verify. Keys come from the
//! policy alone: a key or hint in a bundle is not looked at.

mod bundle;
mod identity;
mod keyed;
mod legacy;
mod logged;
mod rejected;
mod statement;

use sigstore_types::{
    Artifact, Bundle, DsseEnvelope, HashAlgorithm, MessageDigest, MessageSignature, Sha256Hash, SignatureBytes,
    SignatureContent,
};
use zastava_crds::digest::Sha256Digest;

use self::{bundle::Content, identity::Keyless};
pub(crate) use self::{bundle::is_bundle, rejected::Rejected, statement::Wanted};
use crate::{
    blob::Blob,
    registry::Annotations,
    requirement::{AuthorityKind, ResolvedAuthority, Signer},
};

/// A signed statement about the image: who signed it, and its bytes. Only the checks below make one.
#[derive(Debug)]
pub(crate) struct Signed {
    /// Never empty.
    by: Vec<By>,
    payload: Vec<u8>,
}

/// A signer, and the authority (by index) under which it is accepted.
#[derive(Clone, Debug)]
pub(crate) struct By {
    pub(crate) authority: usize,
    pub(crate) signer: Signer,
}

impl Signed {
    /// Who signed, and under which of the authorities it was checked against.
    pub(crate) fn by(&self) -> &[By] {
        &self.by
    }

    /// What was signed.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// A Sigstore bundle of any version, with a DSSE envelope.
pub(crate) fn bundle(
    bytes: &[u8],
    wanted: Wanted<'_>,
    image: &Sha256Digest,
    authorities: &[ResolvedAuthority],
) -> Result<Signed, Rejected> {
    let content = bundle::content(bytes)?;
    let Content::Envelope(envelope) = &content else { return Err(Rejected::Unsupported) };
    dsse(envelope, wanted, image, authorities, || bundle::strictly(bytes, &content))
}

/// A DSSE envelope, as legacy `.att` tags carry it, with what stands beside it.
pub(crate) fn envelope(
    bytes: &[u8],
    beside: &Annotations,
    wanted: Wanted<'_>,
    image: &Sha256Digest,
    authorities: &[ResolvedAuthority],
) -> Result<Signed, Rejected> {
    let envelope: DsseEnvelope = serde_json::from_slice(bytes).map_err(|_| Rejected::Malformed)?;
    let fold = || legacy::fold(SignatureContent::DsseEnvelope(envelope.clone()), beside);
    dsse(&envelope, wanted, image, authorities, fold)
}

/// A legacy signature: `payload` is the layer's bytes.
pub(crate) fn simple_signing(
    payload: &[u8],
    beside: &Annotations,
    image: &Sha256Digest,
    authorities: &[ResolvedAuthority],
) -> Result<Signed, Rejected> {
    let signature = legacy::signature(beside)?;
    let fold = || {
        // cosign hashes with SHA-256 whatever the key, and the digest says so.
        let digest = sigstore_crypto::sha256(payload);
        let digest = MessageDigest::new(HashAlgorithm::Sha2256, (&digest).into());
        let message = MessageSignature::new(signature.clone()).with_message_digest(digest);
        legacy::fold(SignatureContent::MessageSignature(message), beside)
    };
    let sealed = Sealed { message: Message::Bytes(payload), signature: &signature, artifact: Artifact::Blob(payload) };
    let by = sealed.signers(authorities, fold)?;
    statement::simple_signing(payload, image)?;
    Ok(Signed { by, payload: payload.to_vec() })
}

/// A bundle about a blob: its own signature, or a statement whose subject it is, with the predicate type.
pub(crate) fn blob(
    bytes: &[u8],
    blob: Blob<'_>,
    digest: &Sha256Digest,
    authorities: &[ResolvedAuthority],
) -> Result<(Vec<By>, Option<String>), Rejected> {
    let content = bundle::content(bytes)?;
    let whole = || bundle::strictly(bytes, &content);
    match &content {
        Content::Envelope(envelope) => {
            let by = Sealed::envelope(envelope, &envelope.pae(), digest)?.signers(authorities, whole)?;
            let predicate_type = statement::about(&envelope.payload_type, envelope.payload.as_bytes(), digest)?;
            Ok((by, Some(predicate_type)))
        }
        Content::Message(message) => {
            let (signed, artifact) = match blob {
                Blob::Bytes(bytes) => (Message::Bytes(bytes), Artifact::Blob(bytes)),
                Blob::Digest(digest) => (Message::Digest(digest), Artifact::from(hash(digest)?)),
            };
            let sealed = Sealed { message: signed, signature: &message.signature, artifact };
            Ok((sealed.signers(authorities, whole)?, None))
        }
    }
}

fn hash(digest: &Sha256Digest) -> Result<Sha256Hash, Rejected> {
    Sha256Hash::from_hex(digest.hex()).map_err(|_| Rejected::Malformed)
}

fn dsse(
    envelope: &DsseEnvelope,
    wanted: Wanted<'_>,
    image: &Sha256Digest,
    authorities: &[ResolvedAuthority],
    whole: impl FnOnce() -> Result<Bundle, Rejected>,
) -> Result<Signed, Rejected> {
    let by = Sealed::envelope(envelope, &envelope.pae(), image)?.signers(authorities, whole)?;
    let payload = envelope.payload.as_bytes();
    statement::statement(&envelope.payload_type, payload, wanted, image)?;
    Ok(Signed { by, payload: payload.to_vec() })
}

/// What a key without a log signed.
enum Message<'a> {
    Bytes(&'a [u8]),
    Digest(&'a Sha256Digest),
}

/// A signature, what it is over, and what it is to be about.
struct Sealed<'a> {
    message: Message<'a>,
    signature: &'a SignatureBytes,
    artifact: Artifact<'a>,
}

impl<'a> Sealed<'a> {
    fn envelope(envelope: &'a DsseEnvelope, pae: &'a [u8], subject: &Sha256Digest) -> Result<Self, Rejected> {
        let artifact = Artifact::from(hash(subject)?);
        Ok(Self { message: Message::Bytes(pae), signature: &envelope.signature.sig, artifact })
    }

    /// The authorities that signed; never none. `whole` is made when one of them needs a certificate or a log.
    fn signers(
        &self,
        authorities: &[ResolvedAuthority],
        whole: impl FnOnce() -> Result<Bundle, Rejected>,
    ) -> Result<Vec<By>, Rejected> {
        let (mut by, mut rejected) = (Vec::new(), Vec::new());
        let (mut logged, mut keyless) = (Vec::new(), Vec::new());
        for (index, authority) in authorities.iter().enumerate() {
            match authority.kind() {
                AuthorityKind::Key(key) => match keyed::signer(&self.message, self.signature, key) {
                    Ok(signer) => by.push(By { authority: index, signer }),
                    Err(why) => rejected.push(why),
                },
                AuthorityKind::LoggedKey { key, root } => logged.push((index, key, root)),
                AuthorityKind::Keyless { identity, root } => keyless.push(Keyless { index, identity, root }),
            }
        }
        if !logged.is_empty() || !keyless.is_empty() {
            match whole() {
                Ok(bundle) => {
                    for (index, key, root) in logged {
                        match logged::signer(&self.artifact, &bundle, key, root) {
                            Ok(signer) => by.push(By { authority: index, signer }),
                            Err(why) => rejected.push(why),
                        }
                    }
                    if !keyless.is_empty() {
                        match identity::signers(&self.artifact, &bundle, &keyless) {
                            Ok(signers) => by.extend(signers),
                            Err(why) => rejected.push(why),
                        }
                    }
                }
                Err(why) => rejected.push(why),
            }
        }
        if by.is_empty() { Err(rejected.into_iter().max().unwrap_or(Rejected::OtherKey)) } else { Ok(by) }
    }
}
