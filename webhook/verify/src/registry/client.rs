//! The HTTP client of a registry.

use std::time::Duration;

use zastava_core::egress::{Client, Guard};

use super::{RegistryError, RegistrySettings};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that one answer may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// For one configured registry, or for all that are not.
pub(super) fn build(settings: Option<&RegistrySettings>, guard: &Guard) -> Result<Client, RegistryError> {
    let host = settings.map_or("any", |s| s.host.as_str());
    let wrong = |why: String| RegistryError::Ca { host: host.to_owned(), why };
    let mut certificates = Vec::new();
    if let Some(pem) = settings.and_then(|s| s.ca_pem.as_deref()) {
        certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        // Text without any certificate reads as an empty bundle.
        if certificates.is_empty() {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
    }
    let https_only = !settings.is_some_and(|s| s.plain_http);
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("zastava/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .https_only(https_only)
            .tls_certs_merge(certificates.clone())
    };
    guard.client(builder).map_err(|e| RegistryError::Client { host: host.to_owned(), why: e.to_string() })
}
