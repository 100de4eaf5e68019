//! Keys without a log: the signature under exactly the policy's key, and nothing else that a bundle says.

use sigstore_types::SignatureBytes;

use super::{Message, Rejected};
use crate::requirement::{PublicKey, Signer};

/// Whether exactly this key signed exactly this.
pub(super) fn signer(message: &Message<'_>, signature: &SignatureBytes, key: &PublicKey) -> Result<Signer, Rejected> {
    let verifies = match message {
        Message::Bytes(bytes) => key.verifies(bytes, signature),
        Message::Digest(digest) => key.verifies_digest(digest, signature).ok_or(Rejected::Unsupported)?,
    };
    if verifies { Ok(Signer::Key(key.fingerprint().clone())) } else { Err(Rejected::OtherKey) }
}
