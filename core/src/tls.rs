//! Serving over TLS with a leaf that changes while connections are open.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Time that open requests have after the end was asked for.
const GRACE: Duration = Duration::from_secs(20);

/// Why a leaf can't be served, or nothing can.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain or the key is not PEM of the right kind.
    #[error("certificate or key is no PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The key does not go with the chain, or is of an unknown kind.
    #[error("certificate and key can't be served: {0}")]
    Leaf(#[from] rustls::Error),
    /// The port can't be listened on.
    #[error("{address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another cryptography provider is installed.
    #[error("another cryptography provider was installed before")]
    Provider,
}

impl TlsError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Pem(_) => "pem",
            Self::Leaf(_) => "leaf",
            Self::Listen { .. } => "listen",
            Self::Provider => "provider",
        }
    }
}

/// Makes aws-lc-rs the provider of the whole process. Call it first in `main`: several crates could bring their own.
///
/// # Errors
/// [`TlsError::Provider`] when another one came first.
pub fn install_provider() -> Result<(), TlsError> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| TlsError::Provider)
}

/// A TLS server whose leaf is published, and published again, from outside.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: watch::Sender<Option<RustlsConfig>>,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self { config: watch::Sender::new(None) }
    }
}

impl ServerTls {
    /// Serves this chain (leaf first) and key, PEM, from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError`]; the leaf before goes on being served.
    pub fn publish(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        self.config.send_modify(|served| match served {
            Some(served) => served.reload_from_config(config),
            None => *served = Some(RustlsConfig::from_config(config)),
        });
        Ok(())
    }

    /// Whether a leaf has been published.
    pub fn is_published(&self) -> bool {
        self.config.borrow().is_some()
    }

    /// Serves `router` on `address` from the first leaf until `token` is cancelled; open requests then have some time.
    ///
    /// # Errors
    /// [`TlsError::Listen`] when the port can't be had.
    pub async fn serve(&self, router: Router, address: SocketAddr, token: &CancellationToken) -> Result<(), TlsError> {
        let mut published = self.config.subscribe();
        let first = tokio::select! {
            config = published.wait_for(Option::is_some) => config.ok().and_then(|config| config.clone()),
            () = token.cancelled() => None,
        };
        let Some(config) = first else { return Ok(()) };
        let handle = Handle::new();
        let ending = token.clone();
        let stop = handle.clone();
        tokio::spawn(async move {
            ending.cancelled().await;
            stop.graceful_shutdown(Some(GRACE));
        });
        tracing::info!(%address, "serving over TLS");
        axum_server::bind_rustls(address, config)
            .handle(handle)
            .serve(router.into_make_service_with_connect_info::<SocketAddr>())
            .await
            .map_err(|source| TlsError::Listen { address, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_leaf_is_refused_and_serves_nothing() {
        let _ = install_provider();
        let tls = ServerTls::default();
        assert!(matches!(tls.publish(b"", b""), Err(TlsError::Pem(_))));
        assert!(!tls.is_published());
    }
}
