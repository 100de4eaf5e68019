//! Public keys and trust roots that policies name in Zastava's namespace. Of a named object only public keys and, if it is
//! a ConfigMap, trusted roots are kept: a private key beside them is never held.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use zastava_crds::policy::{AdmissionSpec, Key, KeyRef, TrustRootRef};
use zastava_verify::requirement::{MAX_TRUST_ROOT, TrustRoot, TrustStore};

const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----";
/// Stands in the media type of every trusted root.
const TRUSTED_ROOT: &str = "application/vnd.dev.sigstore.trustedroot";
/// Bytes of one key at most, as for `pem` in the spec.
const MAX_KEY: usize = 4096;

/// An object that holds keys or trust roots.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A Secret, by name.
    Secret(String),
    /// A ConfigMap, by name.
    ConfigMap(String),
}

/// What is known of one entry of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A public key, PEM.
    Key(String),
    /// A trusted root.
    TrustRoot(Arc<TrustRoot>),
    /// It means to be a trusted root, and is none to verify with.
    BadTrustRoot(String),
    /// It is there, and is none of these.
    Other,
}

/// What is known of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It was not read yet.
    Pending,
    /// There is no such object.
    Absent,
    /// It can't be read.
    Unreadable(String),
    /// It was read.
    Entries(BTreeMap<String, Entry>),
}

/// What is known of all sources that policies name.
#[derive(Debug, Default)]
pub struct Keyring {
    namespace: String,
    sources: HashMap<Source, Content>,
}

impl Source {
    fn describe(&self, namespace: &str) -> String {
        match self {
            Self::Secret(name) => format!("Secret {namespace}/{name}"),
            Self::ConfigMap(name) => format!("ConfigMap {namespace}/{name}"),
        }
    }
}

/// The objects that a policy's keys and trust roots are in.
pub fn sources(admission: &AdmissionSpec) -> BTreeSet<Source> {
    let authorities = admission.signatures.iter().flat_map(|signature| &signature.authorities);
    let sources = authorities.flat_map(|authority| {
        let key = authority.key.as_ref().and_then(source).map(|(source, _)| source);
        let keyless = authority.keyless.as_ref().and_then(|keyless| keyless.trust_root.as_ref());
        let roots = [authority.trust_root.as_ref(), keyless].into_iter().flatten();
        key.into_iter().chain(roots.map(|root| Source::ConfigMap(root.name.clone())))
    });
    sources.collect()
}

fn source(key: &Key) -> Option<(Source, &KeyRef)> {
    let secret = key.secret_ref.as_ref().map(|r| (Source::Secret(r.name.clone()), r));
    secret.or_else(|| key.config_map_ref.as_ref().map(|r| (Source::ConfigMap(r.name.clone()), r)))
}

impl Content {
    /// Of a Secret.
    pub fn of_secret(secret: Option<Secret>) -> Self {
        let Some(secret) = secret else { return Self::Absent };
        let entries = secret.data.unwrap_or_default().into_iter();
        Self::Entries(entries.map(|(name, bytes)| (name, Entry::of_secret(&bytes.0))).collect())
    }

    /// Of a ConfigMap.
    pub fn of_config_map(map: Option<ConfigMap>) -> Self {
        let Some(map) = map else { return Self::Absent };
        let entries = map.data.unwrap_or_default().into_iter();
        Self::Entries(entries.map(|(name, text)| (name, Entry::of_config_map(&text))).collect())
    }
}

impl Entry {
    fn of_secret(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_KEY);
        match text {
            Some(text) if text.trim_start().starts_with(PUBLIC_KEY) => Self::Key(text.to_owned()),
            _ => Self::Other,
        }
    }

    fn of_config_map(text: &str) -> Self {
        if !text.trim_start().starts_with('{') || !text.contains(TRUSTED_ROOT) {
            return Self::of_secret(text.as_bytes());
        }
        match TrustRoot::from_json(text) {
            Ok(root) => Self::TrustRoot(Arc::new(root)),
            Err(error) => Self::BadTrustRoot(error.to_string()),
        }
    }
}

impl Keyring {
    /// Over a namespace: no policy can name another.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), sources: HashMap::new() }
    }

    /// Makes the sources those that are named now. Returns the new ones and the ones that are gone.
    pub fn name(&mut self, named: &BTreeSet<Source>) -> (Vec<Source>, Vec<Source>) {
        let gone: Vec<_> = self.sources.keys().filter(|source| !named.contains(source)).cloned().collect();
        for source in &gone {
            self.sources.remove(source);
        }
        let new: Vec<_> = named.iter().filter(|source| !self.sources.contains_key(source)).cloned().collect();
        for source in &new {
            self.sources.insert(source.clone(), Content::Pending);
        }
        (new, gone)
    }

    /// Notes what a source holds. What was read stays when a later read fails: an outage of the API server takes no
    /// policy out of force. Returns whether anything changed.
    pub fn learn(&mut self, source: &Source, content: Content) -> bool {
        let Some(known) = self.sources.get_mut(source) else { return false };
        if matches!((&*known, &content), (Content::Entries(_), Content::Unreadable(_))) || *known == content {
            return false;
        }
        *known = content;
        true
    }

    /// Whether every source was read, or found unreadable.
    pub fn settled(&self) -> bool {
        self.sources.values().all(|content| *content != Content::Pending)
    }

    /// An entry, or why it can't be had and what to do; with how messages name its object.
    fn entry(&self, source: &Source, key: &str) -> (String, Result<&Entry, String>) {
        let object = source.describe(&self.namespace);
        let entry = match self.sources.get(source).unwrap_or(&Content::Pending) {
            Content::Pending => Err(format!("{object} is being read: try again")),
            Content::Absent => Err(format!("{object} does not exist: create it")),
            Content::Unreadable(why) => Err(format!("{object} can't be read: {why}")),
            Content::Entries(entries) => entries.get(key).ok_or_else(|| format!("{object} has no entry {key:?}")),
        };
        (object, entry)
    }
}

impl TrustStore for Keyring {
    fn key(&self, key: &Key) -> Result<String, String> {
        if let Some(pem) = &key.pem {
            return Ok(pem.clone());
        }
        let Some((source, KeyRef { key, .. })) = source(key) else {
            return Err("names no key: set one of pem, secretRef and configMapRef".to_owned());
        };
        match self.entry(&source, key) {
            (_, Ok(Entry::Key(pem))) => Ok(pem.clone()),
            (object, Ok(_)) => Err(format!("{object}: {key:?} is no PEM public key of at most 4 KiB")),
            (_, Err(why)) => Err(why),
        }
    }

    fn trust_root(&self, TrustRootRef { name, key }: &TrustRootRef) -> Result<Arc<TrustRoot>, String> {
        match self.entry(&Source::ConfigMap(name.clone()), key) {
            (_, Ok(Entry::TrustRoot(root))) => Ok(root.clone()),
            (object, Ok(Entry::BadTrustRoot(why))) => Err(format!("{object}: {key:?}: {why}")),
            (object, Ok(_)) => {
                let most = MAX_TRUST_ROOT / 1024;
                Err(format!("{object}: {key:?} is no trusted_root.json of at most {most} KiB: put one there"))
            }
            (_, Err(why)) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn in_secret(name: &str, key: &str) -> Key {
        Key { secret_ref: Some(KeyRef { name: name.to_owned(), key: key.to_owned() }), ..Key::default() }
    }

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let data = entries.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn a_key_is_read_from_a_named_source_and_a_private_key_beside_it_is_not_held() {
        let mut keys = Keyring::new("zastava-system");
        let source = Source::Secret("cosign".to_owned());
        assert_eq!(keys.name(&BTreeSet::from([source.clone()])).0, std::slice::from_ref(&source));
        assert!(!keys.settled());
        assert!(keys.key(&in_secret("cosign", "cosign.pub")).unwrap_err().contains("is being read"));
        let pem = format!("{PUBLIC_KEY}\nabc");
        let private = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----";
        assert!(
            keys.learn(&source, Content::of_secret(Some(secret(&[("cosign.pub", &pem), ("cosign.key", private)]))))
        );
        assert!(keys.settled());
        assert_eq!(keys.key(&in_secret("cosign", "cosign.pub")).unwrap(), pem);
        assert!(keys.key(&in_secret("cosign", "cosign.key")).unwrap_err().contains("no PEM public key"));
        assert!(!format!("{keys:?}").contains("PRIVATE"));
        assert!(keys.key(&in_secret("other", "cosign.pub")).is_err(), "an object that was not named is not read");
    }

    #[test]
    fn a_trusted_root_is_read_from_a_config_map_alone() {
        let mut keys = Keyring::new("zastava-system");
        let (map, secret_too) = (Source::ConfigMap("fulcio".to_owned()), Source::Secret("fulcio".to_owned()));
        keys.name(&BTreeSet::from([map.clone(), secret_too.clone()]));
        let root = format!(
            r#"{{"mediaType": "{TRUSTED_ROOT}+json;version=0.1", "tlogs": [], "ctlogs": [], "certificateAuthorities": [],
            "timestampAuthorities": []}}"#
        );
        keys.learn(&secret_too, Content::of_secret(Some(secret(&[("trusted_root.json", &root)]))));
        let reference = |key: &str| TrustRootRef { name: "fulcio".to_owned(), key: key.to_owned() };
        assert!(keys.trust_root(&reference("trusted_root.json")).unwrap_err().contains("is being read"));
        let broken = root.replace("[]", "{}");
        let large = root.replace("[]", &format!("[{}]", " ".repeat(MAX_TRUST_ROOT)));
        let data = [("trusted_root.json", &root), ("broken", &broken), ("large", &large), ("text", &"hi".to_owned())];
        let data = data.map(|(name, text)| (name.to_owned(), text.clone())).into();
        keys.learn(&map, Content::of_config_map(Some(ConfigMap { data: Some(data), ..ConfigMap::default() })));
        assert!(keys.trust_root(&reference("trusted_root.json")).is_ok());
        assert!(keys.trust_root(&reference("broken")).unwrap_err().contains("not a trusted_root.json"));
        assert!(keys.trust_root(&reference("large")).unwrap_err().contains("more than"));
        assert!(keys.trust_root(&reference("text")).unwrap_err().contains("put one there"));
    }

    #[test]
    fn keys_and_trust_roots_are_looked_for_where_policies_name_them() {
        let admission = serde_json::from_value(serde_json::json!({"signatures": [{"name": "a", "authorities": [
            {"key": {"configMapRef": {"name": "key"}}, "transparencyLog": "Require", "trustRoot": {"name": "log"}},
            {"keyless": {"issuer": "https://i", "subject": "s", "trustRoot": {"name": "fulcio"}}},
            {"key": {"secretRef": {"name": "secret"}}}, {"key": {"pem": "x"}}]}]}));
        let map = |name: &str| Source::ConfigMap(name.to_owned());
        let named = [map("fulcio"), map("key"), map("log"), Source::Secret("secret".to_owned())];
        assert_eq!(sources(&admission.unwrap()), BTreeSet::from(named));
    }

    #[test]
    fn a_failing_read_does_not_unlearn_a_key_but_a_deletion_does() {
        let mut keys = Keyring::new("zastava-system");
        let source = Source::Secret("cosign".to_owned());
        keys.name(&BTreeSet::from([source.clone()]));
        keys.learn(&source, Content::of_secret(Some(secret(&[("cosign.pub", PUBLIC_KEY)]))));
        assert!(!keys.learn(&source, Content::Unreadable("503".to_owned())));
        assert!(keys.key(&in_secret("cosign", "cosign.pub")).is_ok());
        assert!(keys.learn(&source, Content::of_secret(None)));
        assert!(keys.key(&in_secret("cosign", "cosign.pub")).unwrap_err().contains("does not exist"));
        assert_eq!(keys.name(&BTreeSet::new()).1, [source]);
    }
}
