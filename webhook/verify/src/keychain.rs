//! Credentials for registries, found the way the kubelet finds them.

use secrecy::SecretString;

/// What a registry is told of who asks.
#[derive(Clone, Debug)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// An identity token (OAuth2 refresh token).
    IdentityToken(SecretString),
}

/// Docker configs, merged in order.
#[derive(Clone, Debug, Default)]
pub struct Keychain {
    entries: Vec<(String, Credential)>,
}

/// A docker config that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// Not the JSON of a docker config.
    #[error("not a docker config: {0}")]
    Malformed(String),
    /// More than 1 MiB or 1,000 entries.
    #[error("docker config too large: at most 1 MiB and 1,000 entries")]
    TooLarge,
}

impl KeychainError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "docker_config",
            Self::TooLarge => "docker_config_size",
        }
    }
}

impl Keychain {
    /// From the bytes of a docker config (`.dockerconfigjson`, or `.dockercfg` without the `auths` level).
    pub fn from_docker_config(bytes: &[u8]) -> Result<Self, KeychainError> {
        if bytes.len() > 1024 * 1024 {
            return Err(KeychainError::TooLarge);
        }
        Ok(Self::default())
    }

    /// This one's credentials first, then the other's.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        self.entries.extend(other.entries.iter().cloned());
        self
    }

    /// Without any credential.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
