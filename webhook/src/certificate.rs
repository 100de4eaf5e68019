//! The serving certificate: a Secret watched by name through the API, swapped without a connection lost.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use tokio_util::sync::CancellationToken;
use zastava_core::watching;

/// The Secret of this server's leaf.
pub const SECRET: &str = "zastava-webhook-tls";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A Secret that is no certificate with its key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Secret {SECRET} has no entry {entry}")]
pub struct CertificateError {
    entry: &'static str,
}

impl CertificateError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self.entry {
            CERT => "certificate_chain",
            _ => "certificate_key",
        }
    }
}

/// A certificate chain and its key, PEM.
pub struct Leaf {
    /// Leaf first.
    pub chain: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl Leaf {
    fn read(secret: Secret) -> Result<Self, CertificateError> {
        let mut data = secret.data.unwrap_or_default();
        let mut entry = |entry: &'static str| data.remove(entry).map(|bytes| bytes.0).ok_or(CertificateError { entry });
        Ok(Self { chain: entry(CERT)?, key: entry(KEY)? })
    }
}

/// Tells every leaf that is published, until `token` is cancelled. A Secret that was lost leaves the last one serving:
/// the operator makes a new one.
pub async fn watch(client: &Client, namespace: &str, mut published: impl FnMut(Leaf), token: &CancellationToken) {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let mut secrets = watch_object(api, SECRET).backoff(watching::pauses()).boxed();
    while let Some(Some(secret)) = token.run_until_cancelled(secrets.next()).await {
        match secret.map(|secret| secret.map(Leaf::read)) {
            Ok(Some(Ok(leaf))) => published(leaf),
            Ok(Some(Err(error))) => tracing::error!(category = error.category(), %error, "no usable certificate"),
            Ok(None) => tracing::warn!(secret = SECRET, "the certificate's Secret is not there, waiting for it"),
            Err(error) => tracing::warn!(secret = SECRET, %error, "the certificate is not watched, trying again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_leaf_is_a_chain_and_a_key() {
        let secret = |entries: &[&str]| Secret {
            data: Some(entries.iter().map(|e| ((*e).to_owned(), ByteString(e.as_bytes().to_vec()))).collect()),
            ..Secret::default()
        };
        let leaf = Leaf::read(secret(&[CERT, KEY, "ca.crt"])).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((leaf.chain.as_slice(), leaf.key.as_slice()), (CERT.as_bytes(), KEY.as_bytes()));
        assert_eq!(Leaf::read(secret(&[CERT])).err(), Some(CertificateError { entry: KEY }));
    }
}
