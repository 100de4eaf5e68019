//! Asking a replica, by a TLS handshake, under which authority it serves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{authority::Issued, bundle::TrustBundle};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What a replica serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Name of the authority that issued its leaf, DER.
    pub issuer: Vec<u8>,
    /// SHA-256 of its leaf, hex.
    pub fingerprint: String,
}

/// Why a replica could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No answer in time.
    #[error("{0} did not answer within 2 s")]
    Timeout(SocketAddr),
    /// No connection, or a handshake that the bundle refuses.
    #[error("{address}: {source}")]
    Handshake {
        /// Who was asked.
        address: SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The bundle or the name can't be used.
    #[error("TLS client can't be made: {0}")]
    Client(String),
}

impl ProbeError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Handshake { .. } => "handshake",
            Self::Client(_) => "client",
        }
    }
}

/// Makes one handshake as the API server would, by `bundle` and `name`, and tells what was served.
///
/// # Errors
/// [`ProbeError`] when there is no handshake that an API server would accept.
pub async fn probe(address: SocketAddr, name: &str, bundle: &TrustBundle) -> Result<Served, ProbeError> {
    let client = |e: &dyn std::fmt::Display| ProbeError::Client(e.to_string());
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(bundle.to_pem().as_bytes()) {
        roots.add(cert.map_err(|e| client(&e))?).map_err(|e| client(&e))?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(|e| client(&e))?;
    let handshake = async {
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    };
    let stream = tokio::time::timeout(TIMEOUT, handshake)
        .await
        .map_err(|_| ProbeError::Timeout(address))?
        .map_err(|source| ProbeError::Handshake { address, source })?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| client(&"no certificate was served"))?;
    let leaf = Issued::from_der(leaf).map_err(|e| client(&e))?;
    Ok(Served { issuer: leaf.issuer, fingerprint: leaf.fingerprint })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::certificates::Authority;

    #[tokio::test]
    async fn a_handshake_tells_the_authority_and_a_strangers_is_refused() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let now = Timestamp::now();
        let (ca, other) = (Authority::mint(now).unwrap(), Authority::mint(now).unwrap());
        let leaf = ca.issue(&["w.z.svc".into()], now).unwrap();
        let chain = CertificateDer::pem_slice_iter(leaf.cert.pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = acceptor.accept(tcp).await;
            }
        });
        let trusting = |ca: &Authority| TrustBundle::parse(&ca.cert.pem);
        let served = probe(address, "w.z.svc", &trusting(&ca)).await.unwrap();
        assert_eq!(served, Served { issuer: ca.cert.subject.clone(), fingerprint: leaf.cert.fingerprint.clone() });
        assert!(matches!(probe(address, "w.z.svc", &trusting(&other)).await, Err(ProbeError::Handshake { .. })));
        assert!(matches!(probe(address, "other.z.svc", &trusting(&ca)).await, Err(ProbeError::Handshake { .. })));
    }
}
