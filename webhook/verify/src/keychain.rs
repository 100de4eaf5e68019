//! Credentials for registries, found the way the kubelet finds them
//! (<https://kubernetes.io/docs/concepts/containers/images/#config-json>, and its own pkg/credentialprovider).

mod key;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zastava_crds::digest::Sha256Digest;

use self::key::{Compiled, GLOB_WEIGHT, Key};

const MAX_CONFIG: usize = 1024 * 1024;
const MAX_ENTRIES: usize = 1000;
/// Different labels with wildcards in one config at most: sixteen such configs may be held for one workload.
const MAX_GLOBS: usize = 100;
/// Bytes that an entry takes beside its texts.
const ENTRY_WEIGHT: usize = 256;
/// Credentials that are tried for one repository at most: each is a request that the registry sees fail.
const MAX_TRIED: usize = 16;
/// With padding or without, as writers of docker configs have it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

impl Credential {
    /// Appends what tells it from others; the text is only ever hashed.
    pub(crate) fn write_identity(&self, text: &mut String) {
        match self {
            Self::Basic { username, password } => {
                text.push_str("basic\0");
                text.push_str(username);
                text.push('\0');
                text.push_str(password.expose_secret());
            }
            Self::IdentityToken(token) => {
                text.push_str("token\0");
                text.push_str(token.expose_secret());
            }
        }
        text.push('\0');
    }
}

/// Docker configs, merged in order.
#[derive(Clone, Debug, Default)]
pub struct Keychain {
    /// Shared: they are merged anew for every workload.
    entries: Vec<Arc<Entry>>,
    /// Names of what was not read, such as `credsStore`.
    ignored: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    credential: Credential,
}

/// A docker config that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// Not the JSON of a docker config.
    #[error("not a docker config: {0}")]
    Malformed(String),
    /// More than 1 MiB, 1,000 entries or 100 labels with wildcards.
    #[error("docker config too large: at most 1 MiB, 1,000 entries and 100 different labels with wildcards")]
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

#[derive(Deserialize)]
struct AuthEntry {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    #[serde(alias = "identityToken")]
    identitytoken: Option<SecretString>,
}

/// A config is this if it has any of these fields; else it is the older form, entries alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    auths: Option<BTreeMap<String, AuthEntry>>,
    cred_helpers: Option<serde_json::Map<String, serde_json::Value>>,
    creds_store: Option<serde::de::IgnoredAny>,
}

impl Keychain {
    /// From the bytes of a docker config (`.dockerconfigjson`, or `.dockercfg`, which has no `auths` level). Entries
    /// without credentials are passed over; what else was not read is told by [`Self::ignored`].
    pub fn from_docker_config(bytes: &[u8]) -> Result<Self, KeychainError> {
        if bytes.len() > MAX_CONFIG {
            return Err(KeychainError::TooLarge);
        }
        // serde_json's messages name line and column, never the value.
        let malformed =
            |e: &serde_json::Error| KeychainError::Malformed(format!("line {}, column {}", e.line(), e.column()));
        let config = serde_json::from_slice::<DockerConfig>(bytes).map_err(|error| malformed(&error))?;
        let mut ignored = Vec::new();
        if config.creds_store.is_some() {
            ignored.push("credsStore".to_owned());
        }
        let helpers = config.cred_helpers.as_ref().map(|helpers| helpers.keys().take(5).cloned().collect::<Vec<_>>());
        ignored.extend(helpers.map(|hosts| format!("credHelpers (for {:.300})", hosts.join(", "))));
        let auths = match config.auths {
            Some(auths) => auths,
            None if !ignored.is_empty() => BTreeMap::new(),
            None => serde_json::from_slice(bytes).map_err(|error| malformed(&error))?,
        };
        if auths.len() > MAX_ENTRIES {
            return Err(KeychainError::TooLarge);
        }
        let (mut entries, mut globs) = (Vec::new(), Compiled::new());
        for (key, auth) in auths {
            let Some(credential) = credential(auth) else { continue };
            let key = Key::parse(&key, &mut globs);
            if globs.len() > MAX_GLOBS {
                return Err(KeychainError::TooLarge);
            }
            entries.extend(key.map(|key| Arc::new(Entry { key, credential })));
        }
        Ok(Self { entries, ignored })
    }

    /// What of the config was not read, if anything, and what to do about it: for a warning.
    pub fn ignored(&self) -> Option<String> {
        (!self.ignored.is_empty()).then(|| {
            format!(
                "{} ignored: programs that give credentials are not run; write the credentials into auths, or set \
                 registries.configured[].credentials where ECR, GAR or ACR exchange them",
                self.ignored.join(" and ")
            )
        })
    }

    /// This one's credentials first, then the other's.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        self.entries.extend(other.entries.iter().cloned());
        self.ignored.extend(other.ignored.iter().cloned());
        self
    }

    /// Bytes that it takes, roughly, for who remembers many.
    pub fn weight(&self) -> usize {
        let globs: HashSet<_> = self.entries.iter().flat_map(|entry| entry.key.globs()).map(Arc::as_ptr).collect();
        self.entries.iter().map(|entry| entry.weight()).sum::<usize>() + globs.len() * GLOB_WEIGHT
    }

    /// Without any credential.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The credentials whose key matches, each once, in the order in which the kubelet tries them.
    pub(crate) fn lookup(&self, host: &str, repository: &str) -> Vec<Credential> {
        let mut matching: Vec<_> = self.entries.iter().filter(|entry| entry.key.matches(host, repository)).collect();
        // Stable: equal keys keep the order in which their configs were merged.
        matching.sort_by(|one, other| other.key.effective.cmp(&one.key.effective));
        let mut seen = HashSet::new();
        let is_new = |credential: &&Credential| {
            let mut identity = String::new();
            credential.write_identity(&mut identity);
            seen.insert(Sha256Digest::of(identity.as_bytes()))
        };
        matching.into_iter().map(|entry| &entry.credential).filter(is_new).take(MAX_TRIED).cloned().collect()
    }
}

impl Entry {
    fn weight(&self) -> usize {
        let secret = match &self.credential {
            Credential::Basic { username, password } => username.len() + password.expose_secret().len(),
            Credential::IdentityToken(token) => token.expose_secret().len(),
        };
        // Its key is kept whole and in parts.
        ENTRY_WEIGHT + secret + 3 * self.key.effective.len()
    }
}

fn credential(auth: AuthEntry) -> Option<Credential> {
    let filled = |secret: Option<SecretString>| secret.filter(|secret| !secret.expose_secret().is_empty());
    if let Some(token) = filled(auth.identitytoken) {
        return Some(Credential::IdentityToken(token));
    }
    let Some(encoded) = filled(auth.auth) else {
        let username = auth.username.filter(|username| !username.is_empty())?;
        return Some(Credential::Basic { username, password: auth.password.unwrap_or_default() });
    };
    // As in Go, where these may be broken into lines.
    let encoded: String = encoded.expose_secret().chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let text = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    // Some writers pad the decoded text with NUL bytes.
    let (username, password) = text.trim_end_matches('\0').split_once(':')?;
    Some(Credential::Basic { username: username.to_owned(), password: password.to_owned().into() })
}

#[cfg(test)]
mod tests;
