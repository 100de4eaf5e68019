//! Secrets, ConfigMaps and what else a decision rests on, from files instead of a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Namespace, Node, Secret, ServiceAccount},
};
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use zastava_admission::policies::keys::{self, Content, Keyring, Source};
use zastava_crds::policy::ZastavaPolicy;
use zastava_verify::image::{Platform, Platforms};

use crate::{
    bounded,
    documents::{Document, DocumentError, Place},
};

/// Bytes of one key or trust root at most.
const MAX_ENTRY: u64 = 1024 * 1024;

/// Objects of a cluster, by namespace and name.
#[derive(Debug, Default)]
pub struct Resources {
    secrets: BTreeMap<(String, String), Secret>,
    config_maps: BTreeMap<(String, String), ConfigMap>,
    accounts: BTreeMap<(String, String), ServiceAccount>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    platforms: Vec<Platform>,
    /// Where objects without a namespace are.
    namespace: String,
}

/// Objects that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// A file can't be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A kind that no decision rests on.
    #[error("{place}: {kind:?} is of no use here: Secret, ConfigMap, Namespace, ServiceAccount and Node are")]
    Kind {
        /// Where.
        place: Place,
        /// Its kind.
        kind: String,
    },
    /// It is not of the form of its kind.
    #[error("{place}: {kind} {name:?}: {why}")]
    Malformed {
        /// Where.
        place: Place,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl ResourceError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Document(error) => error.category(),
            Self::Kind { .. } => "resource_kind",
            Self::Malformed { .. } => "resource_malformed",
        }
    }
}

impl Resources {
    /// None yet; objects that name no namespace are in this one.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }

    /// Takes documents in.
    pub fn take(&mut self, documents: Vec<Document>) -> Result<(), ResourceError> {
        for document in documents {
            let at = (self.namespace_of(&document), document.name().to_owned());
            match document.kind() {
                "Secret" => {
                    let mut secret: Secret = typed(document)?;
                    // What the API server does with it.
                    for (name, text) in secret.string_data.take().unwrap_or_default() {
                        secret.data.get_or_insert_default().insert(name, ByteString(text.into_bytes()));
                    }
                    self.secrets.insert(at, secret);
                }
                "ConfigMap" => {
                    self.config_maps.insert(at, typed(document)?);
                }
                "ServiceAccount" => {
                    self.accounts.insert(at, typed(document)?);
                }
                "Namespace" => {
                    let namespace: Namespace = typed(document)?;
                    let mut labels = namespace.labels().clone();
                    // The API server sets it on all of them.
                    labels.insert("kubernetes.io/metadata.name".to_owned(), at.1.clone());
                    self.namespaces.insert(at.1, labels);
                }
                "Node" => {
                    let node: Node = typed(document)?;
                    self.platforms.extend(Platform::of_labels(node.labels()));
                }
                other => {
                    let kind = other.to_owned();
                    return Err(ResourceError::Kind { place: document.place, kind });
                }
            }
        }
        Ok(())
    }

    /// Takes in a folder as volumes mount Secrets and ConfigMaps: a folder an object, a file an entry.
    pub fn take_folder(&mut self, folder: &Path) -> Result<(), DocumentError> {
        for object in children(folder)?.into_iter().filter(|path| path.is_dir()) {
            let mut entries = BTreeMap::new();
            // Of a mounted volume the entries are links, and what they lead to begins with dots.
            for entry in children(&object)?.into_iter().filter(|path| path.is_file()) {
                let unreadable = |source| DocumentError::Unreadable { file: entry.clone(), source };
                let bytes = bounded::read_regular(&entry, MAX_ENTRY).map_err(unreadable)?;
                let what = || format!("more than {MAX_ENTRY} bytes");
                let bytes = bytes.ok_or_else(|| DocumentError::TooLarge { file: entry.clone(), what: what() })?;
                entries.insert(file_name(&entry), bytes);
            }
            let at = (self.namespace.clone(), file_name(&object));
            let texts = entries
                .iter()
                .filter_map(|(name, bytes)| Some((name.clone(), std::str::from_utf8(bytes).ok()?.to_owned())));
            let map = ConfigMap { data: Some(texts.collect()), ..ConfigMap::default() };
            self.config_maps.insert(at.clone(), map);
            let data = entries.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
            self.secrets.insert(at, Secret { data: Some(data), ..Secret::default() });
        }
        Ok(())
    }

    fn namespace_of(&self, document: &Document) -> String {
        let written = document.text("/metadata/namespace");
        if written.is_empty() { self.namespace.clone() } else { written.to_owned() }
    }

    /// Labels of a namespace.
    pub fn namespace_labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// Namespaces with their labels.
    pub fn namespaces(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, String>)> {
        self.namespaces.iter()
    }

    /// Names of all namespaces that a Secret is in.
    pub fn with_secrets(&self) -> BTreeSet<String> {
        self.secrets.keys().map(|(namespace, _)| namespace.clone()).collect()
    }

    /// A Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// A service account.
    pub fn account(&self, namespace: &str, name: &str) -> Option<&ServiceAccount> {
        self.accounts.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Platforms of the nodes; without nodes any.
    pub fn platforms(&self) -> Platforms {
        Platforms::of(self.platforms.iter().cloned())
    }

    /// What a source of keys holds, if it is here.
    fn content(&self, source: &Source) -> Option<Content> {
        let at = |name: &String| (self.namespace.clone(), name.clone());
        match source {
            Source::Secret(name) => self.secrets.get(&at(name)).map(|s| Content::of_secret(Some(s.clone()))),
            Source::ConfigMap(name) => self.config_maps.get(&at(name)).map(|m| Content::of_config_map(Some(m.clone()))),
        }
    }

    /// All that policies refer to. What is not here comes from `elsewhere`.
    pub async fn keyring<'a>(
        &self,
        policies: impl Iterator<Item = &'a ZastavaPolicy>,
        elsewhere: impl AsyncFn(&Source) -> Content,
    ) -> Keyring {
        let named: BTreeSet<_> =
            policies.filter_map(|policy| policy.spec.admission.as_ref()).flat_map(keys::sources).collect();
        let mut keyring = Keyring::new(&self.namespace);
        keyring.name(&named);
        for source in named {
            let content = match self.content(&source) {
                Some(content) => content,
                None => elsewhere(&source).await,
            };
            keyring.learn(&source, content);
        }
        keyring
    }
}

fn typed<T: DeserializeOwned>(document: Document) -> Result<T, ResourceError> {
    let (place, kind, name) = (document.place.clone(), document.kind().to_owned(), document.name().to_owned());
    let malformed = |why: String| ResourceError::Malformed { place: place.clone(), kind, name: name.clone(), why };
    if name.is_empty() {
        return Err(malformed("metadata.name: Required value".to_owned()));
    }
    // A message about a Secret's value could show it: serde_json's positions are enough.
    serde_json::from_value(document.value).map_err(|error| {
        malformed(match error.classify() {
            serde_json::error::Category::Data => "is not of the form of its kind: look at data and metadata".to_owned(),
            _ => "can't be read".to_owned(),
        })
    })
}

fn children(folder: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let unreadable = |source| DocumentError::Unreadable { file: folder.to_owned(), source };
    let mut children = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if !file_name(&path).starts_with('.') {
            children.push(path);
        }
    }
    children.sort();
    Ok(children)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
