//! The HTTP client of a registry.

use std::time::Duration;

use super::{RegistryError, RegistrySettings};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that one answer may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn build(settings: Option<&RegistrySettings>) -> Result<reqwest::Client, RegistryError> {
    let host = settings.map_or("any", |s| s.host.as_str());
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("zastava/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::limited(5));
    if !settings.is_some_and(|s| s.plain_http) {
        builder = builder.https_only(true);
    }
    if let Some(pem) = settings.and_then(|s| s.ca_pem.as_deref()) {
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|e| RegistryError::Ca { host: host.to_owned(), why: e.to_string() })?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|e| RegistryError::Client { host: host.to_owned(), why: e.to_string() })
}
