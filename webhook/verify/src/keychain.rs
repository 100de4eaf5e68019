//! Credentials for registries, found the way the kubelet finds them
//! (<https://kubernetes.io/docs/concepts/containers/images/#config-json>).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use globset::{GlobBuilder, GlobMatcher};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

const MAX_CONFIG: usize = 1024 * 1024;
const MAX_ENTRIES: usize = 1000;

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
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    credential: Credential,
}

/// A key of a docker config, such as `*.registry.example:5000/team`.
#[derive(Clone, Debug)]
struct Key {
    /// One a label of the host: a glob never spans a dot.
    labels: Vec<GlobMatcher>,
    port: Option<String>,
    path: String,
    written: String,
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

#[derive(Deserialize)]
struct AuthEntry {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    #[serde(alias = "identityToken")]
    identitytoken: Option<SecretString>,
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, AuthEntry>,
}

impl Keychain {
    /// From the bytes of a docker config (`.dockerconfigjson`, or `.dockercfg`, which has no `auths` level). Credential
    /// helpers are not run; entries without credentials are passed over.
    pub fn from_docker_config(bytes: &[u8]) -> Result<Self, KeychainError> {
        if bytes.len() > MAX_CONFIG {
            return Err(KeychainError::TooLarge);
        }
        // serde_json's messages name line and column, never the value.
        let malformed =
            |e: &serde_json::Error| KeychainError::Malformed(format!("line {}, column {}", e.line(), e.column()));
        let auths = match serde_json::from_slice::<DockerConfig>(bytes) {
            Ok(config) => config.auths,
            Err(first) => {
                serde_json::from_slice::<BTreeMap<String, AuthEntry>>(bytes).map_err(|_| malformed(&first))?
            }
        };
        if auths.len() > MAX_ENTRIES {
            return Err(KeychainError::TooLarge);
        }
        let entries = auths
            .into_iter()
            .filter_map(|(key, auth)| Some(Entry { credential: credential(auth)?, key: Key::parse(&key)? }))
            .collect();
        Ok(Self { entries })
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

    /// All credentials whose key matches, the longest path first, as the kubelet tries them.
    pub(crate) fn lookup(&self, host: &str, repository: &str) -> Vec<Credential> {
        let mut matching: Vec<_> = self.entries.iter().filter(|entry| entry.key.matches(host, repository)).collect();
        // Stable: equally long keys keep the order in which their configs were merged.
        matching.sort_by_key(|entry| std::cmp::Reverse(entry.key.written.len()));
        matching.into_iter().map(|entry| entry.credential.clone()).collect()
    }
}

impl Key {
    fn parse(written: &str) -> Option<Self> {
        let bare = written.trim_start_matches("https://").trim_start_matches("http://");
        let (authority, path) = bare.split_once('/').unwrap_or((bare, ""));
        // Docker Hub's keys end in its API's version, which is no path of a repository.
        let path = if matches!(path.trim_end_matches('/'), "v1" | "v2") { "" } else { path.trim_end_matches('/') };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.to_owned())),
            None => (authority, None),
        };
        let host = canonical_host(host);
        let label = |label: &str| {
            GlobBuilder::new(label).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
        };
        let labels = host.split('.').map(label).collect::<Option<Vec<_>>>()?;
        Some(Self { labels, port, path: path.to_owned(), written: written.to_owned() })
    }

    fn matches(&self, host: &str, repository: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        };
        let labels: Vec<_> = canonical_host(name).split('.').collect();
        let path_matches = repository
            .strip_prefix(&self.path)
            .is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'));
        self.port.as_deref() == port
            && labels.len() == self.labels.len()
            && self.labels.iter().zip(labels).all(|(glob, label)| glob.is_match(label))
            && path_matches
    }
}

/// Docker Hub goes by three names.
fn canonical_host(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

fn credential(auth: AuthEntry) -> Option<Credential> {
    if let Some(token) = auth.identitytoken.filter(|token| !token.expose_secret().is_empty()) {
        return Some(Credential::IdentityToken(token));
    }
    if let (Some(username), Some(password)) = (auth.username, auth.password) {
        return Some(Credential::Basic { username, password });
    }
    let decoded = STANDARD.decode(auth.auth?.expose_secret().trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    // Some writers pad the decoded text with NUL bytes.
    let (username, password) = text.trim_end_matches('\0').split_once(':')?;
    Some(Credential::Basic { username: username.to_owned(), password: password.to_owned().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keychain(keys: &[&str]) -> Keychain {
        let auths: BTreeMap<_, _> =
            keys.iter().map(|key| (key, serde_json::json!({"username": key, "password": "p"}))).collect();
        Keychain::from_docker_config(serde_json::json!({"auths": auths}).to_string().as_bytes()).unwrap()
    }

    fn users(keychain: &Keychain, host: &str, repository: &str) -> Vec<String> {
        let name = |credential: Credential| match credential {
            Credential::Basic { username, .. } => username,
            Credential::IdentityToken(_) => "token".to_owned(),
        };
        keychain.lookup(host, repository).into_iter().map(name).collect()
    }

    /// The examples of the Kubernetes documentation on config.json.
    #[test]
    fn keys_match_as_the_kubelets_do() {
        for (key, host, repository, matches) in [
            ("*.kubernetes.io", "abc.kubernetes.io", "app", true),
            ("*.kubernetes.io", "kubernetes.io", "app", false),
            ("*.*.kubernetes.io", "abc.kubernetes.io", "app", false),
            ("*.*.kubernetes.io", "abc.def.kubernetes.io", "app", true),
            ("prefix.*.io", "prefix.kubernetes.io", "app", true),
            ("*-good.kubernetes.io", "prefix-good.kubernetes.io", "app", true),
            ("my-registry.example/images", "my-registry.example", "images", true),
            ("my-registry.example/images", "my-registry.example", "images/my-app", true),
            ("my-registry.example/images", "my-registry.example", "images2", false),
            ("*.my-registry.example/images", "sub.my-registry.example", "images/my-app", true),
            ("*.my-registry.example/images", "sub.sub.my-registry.example", "images/my-app", false),
            ("registry.example:5000", "registry.example:5000", "app", true),
            ("registry.example:5000", "registry.example", "app", false),
            ("registry.example", "registry.example:5000", "app", false),
            ("https://index.docker.io/v1/", "docker.io", "library/busybox", true),
            ("[a-", "a", "app", false),
        ] {
            assert_eq!(
                !users(&keychain(&[key]), host, repository).is_empty(),
                matches,
                "{key} for {host}/{repository}"
            );
        }
    }

    #[test]
    fn all_matches_are_tried_the_most_specific_first() {
        let keychain = keychain(&["registry.example", "registry.example/team"]).merged(&keychain(&["*.example"]));
        assert_eq!(
            users(&keychain, "registry.example", "team/app"),
            ["registry.example/team", "registry.example", "*.example"]
        );
    }

    #[test]
    fn both_layouts_and_all_forms_of_credentials_are_read() {
        let auth = STANDARD.encode("robot$x:pa:ss");
        let modern = serde_json::json!({"auths": {"a.example": {"auth": auth}, "b.example": {"identitytoken": "t"}, "c.example": {}}, "credsStore": "desktop"});
        let modern = Keychain::from_docker_config(modern.to_string().as_bytes()).unwrap();
        let [Credential::Basic { username, password }] = &modern.lookup("a.example", "x")[..] else {
            panic!("no user")
        };
        assert_eq!((username.as_str(), password.expose_secret()), ("robot$x", "pa:ss"));
        assert!(matches!(&modern.lookup("b.example", "x")[..], [Credential::IdentityToken(_)]));
        assert!(modern.lookup("c.example", "x").is_empty());
        let old = serde_json::json!({"a.example": {"auth": auth}});
        assert_eq!(Keychain::from_docker_config(old.to_string().as_bytes()).unwrap().lookup("a.example", "x").len(), 1);
    }

    #[test]
    fn errors_and_debug_texts_tell_no_secret() {
        let error = Keychain::from_docker_config(br#"{"auths": {"a": {"password": hunter2}}}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(!format!("{:?}", keychain(&["a.example"])).contains("\"p\""));
    }
}
