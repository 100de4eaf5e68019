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

use self::key::Key;

const MAX_CONFIG: usize = 1024 * 1024;
const MAX_ENTRIES: usize = 1000;
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
        let entries = auths
            .into_iter()
            .filter_map(|(key, auth)| Some(Arc::new(Entry { credential: credential(auth)?, key: Key::parse(&key)? })))
            .collect();
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
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

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

    /// The examples of the Kubernetes documentation on config.json, and what its source says besides.
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
            ("my-registry.example/images", "my-registry.example", "images2", true),
            ("my-registry.example/images/", "my-registry.example", "images", false),
            ("my-registry.example/images/", "my-registry.example", "images/my-app", true),
            ("http://my-registry.example/", "my-registry.example", "app", true),
            ("my-registry.example/v2/", "my-registry.example", "app", true),
            ("my-registry.example/v2/team", "my-registry.example", "team/app", true),
            ("my-registry.example/v2", "my-registry.example", "app", false),
            ("my-registry.example/*", "my-registry.example", "app", false),
            ("r?gistry.example", "registry.example", "app", true),
            ("{registry,other}.example", "registry.example", "app", false),
            ("*", "registry.example", "app", false),
            ("*", "registry", "app", true),
            ("registry.example:*", "registry.example:5000", "app", false),
            ("[::1]:5000", "[::1]:5000", "app", true),
            ("docker.io", "docker.io", "library/busybox", true),
            ("index.docker.io", "docker.io", "library/busybox", true),
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
    fn all_matches_are_tried_once_and_in_the_kubelets_order() {
        let keychain = keychain(&["registry.example", "registry.example/team", "registry.example/team/app"])
            .merged(&keychain(&["*.example", "registry.example/team"]));
        assert_eq!(
            users(&keychain, "registry.example", "team/app"),
            ["registry.example/team/app", "registry.example/team", "registry.example", "*.example"]
        );
    }

    #[test]
    fn a_secret_with_hundreds_of_passwords_is_not_tried_to_the_end() {
        let auths: BTreeMap<_, _> = (0..500)
            .map(|n| (format!("https://{}registry.example", "*".repeat(n % 7)), n))
            .map(|(key, n)| (format!("{key}/{}", "a".repeat(n)), serde_json::json!({"username": n.to_string()})))
            .collect();
        let config = serde_json::json!({"auths": auths}).to_string();
        let keychain = Keychain::from_docker_config(config.as_bytes()).unwrap();
        assert_eq!(keychain.lookup("registry.example", &"a".repeat(500)).len(), MAX_TRIED);
    }

    #[test]
    fn what_is_not_read_is_named() {
        let said = |config: &str| Keychain::from_docker_config(config.as_bytes()).unwrap().ignored();
        assert_eq!(said(r#"{"auths": {}}"#), None);
        let store = said(r#"{"credsStore": "desktop"}"#).unwrap();
        assert!(store.starts_with("credsStore ignored") && store.contains("write the credentials into auths"));
        let helpers =
            said(r#"{"auths": {"a.example": {}}, "credHelpers": {"b.example": "gcr", "c.example": "ecr-login"}}"#);
        assert!(helpers.unwrap().contains("credHelpers (for b.example, c.example)"));
    }

    #[test]
    fn credentials_are_read_as_the_kubelet_reads_them() {
        let read = |entry: serde_json::Value| {
            let config = serde_json::json!({"auths": {"a.example": entry}}).to_string();
            let found = Keychain::from_docker_config(config.as_bytes()).unwrap().lookup("a.example", "x");
            found.into_iter().next().map(|found| match found {
                Credential::Basic { username, password } => format!("{username}:{}", password.expose_secret()),
                Credential::IdentityToken(token) => token.expose_secret().to_owned(),
            })
        };
        let auth = STANDARD.encode("robot:pass");
        // `auth` comes before what is beside it.
        assert_eq!(read(serde_json::json!({"auth": auth, "username": "u", "password": "p"})).unwrap(), "robot:pass");
        assert_eq!(read(serde_json::json!({"auth": "", "username": "u", "password": "p"})).unwrap(), "u:p");
        assert_eq!(read(serde_json::json!({"auth": STANDARD_NO_PAD.encode("robot:pass")})).unwrap(), "robot:pass");
        let broken = format!("{}\n{}", &auth[..4], &auth[4..]);
        assert_eq!(read(serde_json::json!({"auth": broken})).unwrap(), "robot:pass");
        assert_eq!(read(serde_json::json!({"username": "u"})).unwrap(), "u:");
        for nothing in [serde_json::json!({}), serde_json::json!({"auth": "%%%"}), serde_json::json!({"password": "p"})]
        {
            assert_eq!(read(nothing.clone()), None, "{nothing}");
        }
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
