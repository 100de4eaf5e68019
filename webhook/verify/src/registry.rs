//! Registries: the distribution API with bounds, and what is configured for each of them.

use serde::Deserialize;

/// What is configured for one registry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrySettings {
    /// Host as references write it, with its port.
    pub host: String,
    /// Plain HTTP instead of TLS.
    #[serde(default)]
    pub plain_http: bool,
    /// Certificates (PEM) to trust for it besides the system's.
    #[serde(default)]
    pub ca_pem: Option<String>,
    /// Host that is asked instead, such as a pull-through cache. It serves content only: digests are still checked.
    #[serde(default)]
    pub mirror: Option<String>,
}

/// All registries, as configured; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    settings: std::sync::Arc<[RegistrySettings]>,
}

/// Settings of a registry that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The certificates don't parse.
    #[error("registry {host}: caPem is not a PEM certificate: {why}")]
    Ca {
        /// Host of the entry.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// No client could be built.
    #[error("registry {host}: {why}")]
    Client {
        /// Host of the entry.
        host: String,
        /// What went wrong.
        why: String,
    },
}

impl RegistryError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Ca { .. } => "registry_ca",
            Self::Client { .. } => "registry_client",
        }
    }
}

impl Registry {
    /// With these settings; a registry without any is asked over TLS, under the system's certificates.
    pub fn new(settings: Vec<RegistrySettings>) -> Result<Self, RegistryError> {
        Ok(Self { settings: settings.into() })
    }

    /// What is configured.
    pub fn settings(&self) -> &[RegistrySettings] {
        &self.settings
    }
}
