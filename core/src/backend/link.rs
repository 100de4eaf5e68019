//! The connection to the backend: behind the guard, with the client certificate that the files hold now.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, Identity, Url};

use super::{Cause, Unavailable, authenticate::read, chain, client::BackendError};
use crate::{
    egress::{self, Guard},
    settings::backend::BackendSettings,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An idle connection whose other end is gone is noticed within the two together.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection, made anew when the client certificate changes.
#[derive(Debug)]
pub struct Link {
    guard: Guard,
    roots: Vec<Certificate>,
    identity: Option<Files>,
    made: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

struct Made {
    /// Key and chain, as read.
    identity: Option<Vec<u8>>,
    client: egress::Client,
}

impl std::fmt::Debug for Made {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Link {
    pub fn new(settings: &BackendSettings, url: &Url) -> Result<Self, BackendError> {
        let host = url.host_str().unwrap_or_default();
        let host = format!("{host}:{}", url.port_or_known_default().unwrap_or(443));
        // Configured, so it may be anywhere; whatever it redirects to may not.
        let guard = Guard::new([], [host.as_str()]).map_err(|error| BackendError::Url(error.to_string()))?;
        let roots =
            Certificate::from_pem_bundle(settings.ca.as_bytes()).map_err(|error| BackendError::Ca(chain(&error)))?;
        if roots.is_empty() && !settings.ca.trim().is_empty() {
            return Err(BackendError::Ca("it holds no certificate".to_owned()));
        }
        let identity = (!settings.certificate_file.is_empty())
            .then(|| Files { chain: (&settings.certificate_file).into(), key: (&settings.key_file).into() });
        Ok(Self { guard, roots, identity, made: Mutex::new(None) })
    }

    /// The client of the next request.
    pub async fn client(&self) -> Result<egress::Client, Unavailable> {
        let identity = match &self.identity {
            None => None,
            Some(files) => Some([read(&files.key).await?, b"\n".to_vec(), read(&files.chain).await?].concat()),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref().filter(|made| made.identity == identity) {
            return Ok(made.client.clone());
        }
        match (self.connect(identity.as_deref()), made.as_ref()) {
            (Ok(client), _) => {
                *made = Some(Made { identity, client: client.clone() });
                Ok(client)
            }
            // Files that are being replaced don't go together for a moment.
            (Err(error), Some(before)) => {
                tracing::warn!(%error, "the client certificate for the backend can't be used; the one before stays");
                Ok(before.client.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    fn connect(&self, identity: Option<&[u8]>) -> Result<egress::Client, Unavailable> {
        let wrong = |error: reqwest::Error| {
            Unavailable::new(Cause::Credential, format!("the client certificate can't be used: {}", chain(&error)))
        };
        let identity = identity.map(Identity::from_pem).transpose().map_err(wrong)?;
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("zastava/", env!("CARGO_PKG_VERSION")))
                .https_only(true)
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .pool_max_idle_per_host(4);
            let builder = match self.roots.as_slice() {
                [] => builder,
                roots => builder.tls_certs_only(roots.to_vec()),
            };
            match &identity {
                None => builder,
                Some(identity) => builder.identity(identity.clone()),
            }
        };
        self.guard.client(builder).map_err(wrong)
    }
}
