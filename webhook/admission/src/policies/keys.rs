//! Public keys that policies name in Zastava's namespace. Of a Secret only what a policy names is kept, and only if it
//! is a public key: a private key beside it is never held.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use zastava_crds::policy::{AdmissionSpec, Key, KeyRef};

const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----";
/// Bytes of one key at most, as for `pem` in the spec.
const MAX_KEY: usize = 4096;

/// An object that holds keys.
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
    /// It is there, and is no public key.
    NotAKey,
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

/// The objects that a policy's keys are in.
pub fn sources(admission: &AdmissionSpec) -> BTreeSet<Source> {
    let authorities = admission.signatures.iter().flat_map(|signature| &signature.authorities);
    authorities.filter_map(|authority| authority.key.as_ref()).filter_map(|key| source(key).map(|(s, _)| s)).collect()
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
        Self::Entries(entries.map(|(name, bytes)| (name, Entry::read(&bytes.0))).collect())
    }

    /// Of a ConfigMap.
    pub fn of_config_map(map: Option<ConfigMap>) -> Self {
        let Some(map) = map else { return Self::Absent };
        let entries = map.data.unwrap_or_default().into_iter();
        Self::Entries(entries.map(|(name, text)| (name, Entry::read(text.as_bytes()))).collect())
    }
}

impl Entry {
    fn read(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_KEY);
        match text {
            Some(text) if text.trim_start().starts_with(PUBLIC_KEY) => Self::Key(text.to_owned()),
            _ => Self::NotAKey,
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

    /// The PEM text of a key, or why it can't be had and what to do.
    pub fn resolve(&self, key: &Key) -> Result<String, String> {
        if let Some(pem) = &key.pem {
            return Ok(pem.clone());
        }
        let Some((source, reference)) = source(key) else {
            return Err("names no key: set one of pem, secretRef and configMapRef".to_owned());
        };
        let object = source.describe(&self.namespace);
        match self.sources.get(&source).unwrap_or(&Content::Pending) {
            Content::Pending => Err(format!("{object} is being read: try again")),
            Content::Absent => Err(format!("{object} does not exist: create it")),
            Content::Unreadable(why) => Err(format!("{object} can't be read: {why}")),
            Content::Entries(entries) => match entries.get(&reference.key) {
                Some(Entry::Key(pem)) => Ok(pem.clone()),
                Some(Entry::NotAKey) => {
                    Err(format!("{object}: {:?} is no PEM public key of at most 4 KiB", reference.key))
                }
                None => Err(format!("{object} has no entry {:?}", reference.key)),
            },
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
        assert!(keys.resolve(&in_secret("cosign", "cosign.pub")).unwrap_err().contains("is being read"));
        let pem = format!("{PUBLIC_KEY}\nabc");
        let private = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----";
        assert!(
            keys.learn(&source, Content::of_secret(Some(secret(&[("cosign.pub", &pem), ("cosign.key", private)]))))
        );
        assert!(keys.settled());
        assert_eq!(keys.resolve(&in_secret("cosign", "cosign.pub")).unwrap(), pem);
        assert!(keys.resolve(&in_secret("cosign", "cosign.key")).unwrap_err().contains("no PEM public key"));
        assert!(!format!("{keys:?}").contains("PRIVATE"));
        assert!(keys.resolve(&in_secret("other", "cosign.pub")).is_err(), "an object that was not named is not read");
    }

    #[test]
    fn a_failing_read_does_not_unlearn_a_key_but_a_deletion_does() {
        let mut keys = Keyring::new("zastava-system");
        let source = Source::Secret("cosign".to_owned());
        keys.name(&BTreeSet::from([source.clone()]));
        keys.learn(&source, Content::of_secret(Some(secret(&[("cosign.pub", PUBLIC_KEY)]))));
        assert!(!keys.learn(&source, Content::Unreadable("503".to_owned())));
        assert!(keys.resolve(&in_secret("cosign", "cosign.pub")).is_ok());
        assert!(keys.learn(&source, Content::of_secret(None)));
        assert!(keys.resolve(&in_secret("cosign", "cosign.pub")).unwrap_err().contains("does not exist"));
        assert_eq!(keys.name(&BTreeSet::new()).1, [source]);
    }
}
