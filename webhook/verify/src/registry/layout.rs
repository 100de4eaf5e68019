//! An OCI image layout on disk, asked as if it were a registry
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).
//!
//! What is attached to an image is found the three ways that tools write it down: manifests with a `subject`, entries
//! named `sha256-<hex>[.sig|.att]` as in a registry, and entries with the `kind` that `cosign save` gives them.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_TYPE, HeaderName},
};
use oci_spec::image::{Descriptor, ImageIndex};
use serde::Deserialize;
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;

use super::{
    MAX_MANIFEST,
    transport::{Page, Question, Transport},
};
use crate::{
    answer::{Answer, Unknown, UnknownCause},
    image::ImageReference,
};

/// Entries of `index.json` at most.
const MAX_ENTRIES: usize = 1000;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// What an entry is called, by most tools.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What it is called with its registry and repository, by containerd and buildkit.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// What `cosign save` says an entry is.
const KIND: &str = "kind";
const SIGNATURES: &str = "dev.cosignproject.cosign/sigs";
const ATTESTATIONS: &str = "dev.cosignproject.cosign/atts";

/// A layout whose index was read; its blobs are read when they are asked for.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    entries: Vec<Entry>,
    /// Descriptors of what refers to a manifest, by its digest.
    referrers: HashMap<Sha256Digest, Vec<Value>>,
}

/// One entry of `index.json`.
#[derive(Debug)]
struct Entry {
    digest: Sha256Digest,
    media_type: String,
    names: Vec<String>,
    /// `kind` of `cosign save`.
    kind: Option<String>,
    /// It is attached to another manifest.
    refers: bool,
}

/// A folder that is no layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of it can't be read.
    #[error("{path}: {source}; name the folder of an OCI image layout, with oci-layout and index.json in it")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file of it is not what it should be.
    #[error("{path}: {why}")]
    Malformed {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl LayoutError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "layout_unreadable",
            Self::Malformed { .. } => "layout_malformed",
        }
    }
}

/// `oci-layout`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// A manifest, as far as it says what it is attached to.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    artifact_type: Option<String>,
    subject: Option<Subject>,
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Sha256Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<String>,
}

impl Layout {
    /// Reads `oci-layout`, `index.json`, and what each of its entries says it is attached to.
    pub fn open(folder: &Path) -> Result<Self, LayoutError> {
        let malformed = |file: &str, why: String| {
            let path = folder.join(file).display().to_string();
            LayoutError::Malformed { path, why }
        };
        let marker = read_file(folder, "oci-layout")?;
        let marker: Marker =
            serde_json::from_slice(&marker).map_err(|error| malformed("oci-layout", error.to_string()))?;
        if !marker.image_layout_version.starts_with("1.") {
            let why = format!("layout version {:?} can't be read: 1.x can", marker.image_layout_version);
            return Err(malformed("oci-layout", why));
        }
        let index = read_file(folder, "index.json")?;
        let index: ImageIndex =
            serde_json::from_slice(&index).map_err(|error| malformed("index.json", error.to_string()))?;
        if index.manifests().len() > MAX_ENTRIES {
            let why = format!("{} entries, more than {MAX_ENTRIES}", index.manifests().len());
            return Err(malformed("index.json", why));
        }
        let mut layout = Self { folder: folder.to_owned(), entries: Vec::new(), referrers: HashMap::new() };
        for descriptor in index.manifests() {
            layout.take(descriptor);
        }
        Ok(layout)
    }

    /// Names of its entries, for people.
    pub fn names(&self) -> Vec<String> {
        let images = self.entries.iter().filter(|entry| entry.is_image());
        images.map(|entry| entry.names.first().cloned().unwrap_or_else(|| entry.digest.to_string())).collect()
    }

    fn take(&mut self, descriptor: &Descriptor) {
        let Ok(digest) = descriptor.digest().to_string().parse::<Sha256Digest>() else { return };
        let annotation = |name: &str| descriptor.annotations().as_ref().and_then(|all| all.get(name)).cloned();
        // A manifest that can't be read now is told about when it is asked for.
        let body = match self.blob(&digest, MAX_MANIFEST) {
            Answer::Found(body) => body,
            Answer::None | Answer::Unknown(_) => Bytes::new(),
        };
        let attached: Attached = serde_json::from_slice(&body).unwrap_or_default();
        let subject = attached.subject.map(|subject| subject.digest);
        self.entries.push(Entry {
            names: [IMAGE_NAME, REF_NAME].into_iter().filter_map(annotation).collect(),
            kind: annotation(KIND),
            media_type: descriptor.media_type().to_string(),
            refers: subject.is_some(),
            digest: digest.clone(),
        });
        if let Some(subject) = subject {
            let artifact_type =
                attached.artifact_type.or_else(|| attached.config.and_then(|c| c.media_type)).unwrap_or_default();
            let descriptor = json!({"mediaType": descriptor.media_type().to_string(), "digest": digest,
                "size": body.len(), "artifactType": artifact_type});
            self.referrers.entry(subject).or_default().push(descriptor);
        }
    }

    fn ask(&self, question: &Question) -> Answer<Page> {
        let parts = ["/manifests/", "/blobs/", "/referrers/"]
            .into_iter()
            .find_map(|kind| question.path.rsplit_once(kind).map(|(at, reference)| (kind, at, reference)));
        let Some((kind, at, reference)) = parts else { return Answer::None };
        let digest = reference.parse::<Sha256Digest>();
        match (kind, digest) {
            ("/manifests/", Ok(digest)) => self.manifest(&digest, question.limit),
            ("/manifests/", Err(_)) => {
                let repository = at.strip_prefix("/v2/").unwrap_or(at);
                match self.named(&question.registry, repository, reference) {
                    Answer::Found(digest) => self.manifest(&digest, question.limit),
                    Answer::None => Answer::None,
                    Answer::Unknown(unknown) => Answer::Unknown(unknown),
                }
            }
            ("/blobs/", Ok(digest)) => {
                self.blob(&digest, question.limit).map(|body| Page { headers: HeaderMap::new(), body })
            }
            ("/referrers/", Ok(digest)) => {
                let manifests = self.referrers.get(&digest).cloned().unwrap_or_default();
                let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests});
                Answer::Found(page(INDEX_TYPE, index.to_string().into()))
            }
            _ => Answer::None,
        }
    }

    fn manifest(&self, digest: &Sha256Digest, limit: usize) -> Answer<Page> {
        let media_type = self.entries.iter().find(|entry| entry.digest == *digest).map(|entry| &entry.media_type);
        self.blob(digest, limit).map(|body| match media_type {
            Some(media_type) => page(media_type, body),
            None => Page { headers: HeaderMap::new(), body },
        })
    }

    /// What a tag stands for: an entry of that full name, an entry called by the tag alone, what cosign saved beside the
    /// image, or the only image there is if nobody gave it a name.
    fn named(&self, registry: &str, repository: &str, tag: &str) -> Answer<Sha256Digest> {
        let is = |entry: &Entry| {
            let full = |name: &String| {
                name.parse::<ImageReference>().is_ok_and(|image| {
                    image.host() == registry && image.repository() == repository && image.tag() == Some(tag)
                })
            };
            entry.names.iter().any(full)
        };
        let called = |entry: &Entry| entry.names.iter().any(|name| name == tag);
        let by = |is: &dyn Fn(&Entry) -> bool| -> Vec<&Entry> { self.entries.iter().filter(|e| is(e)).collect() };
        // What cosign saved carries the name of the image that it belongs to.
        let mut found = by(&|entry| is(entry) && !entry.is_saved_beside());
        if found.is_empty() {
            found = by(&|entry| called(entry) && !entry.is_saved_beside());
        }
        if found.is_empty() {
            found = self.saved_beside(tag);
        }
        if found.is_empty() && attached_tag(tag).is_none() {
            let images = by(&Entry::is_image);
            let nameless = images.iter().all(|entry| entry.names.is_empty());
            let one = images.iter().all(|entry| Some(&entry.digest) == images.first().map(|first| &first.digest));
            found = if nameless && one { images } else { Vec::new() };
        }
        match &found[..] {
            [] => Answer::None,
            [first, rest @ ..] if rest.iter().all(|entry| entry.digest == first.digest) => {
                Answer::Found(first.digest.clone())
            }
            several => {
                let message = format!("{}: {} entries are called {tag}", self.folder.display(), several.len());
                Answer::Unknown(Unknown::new(UnknownCause::Integrity, message))
            }
        }
    }

    /// What `cosign save` put beside the image that a tag such as `sha256-<hex>.sig` speaks of.
    fn saved_beside(&self, tag: &str) -> Vec<&Entry> {
        let Some((image, kind)) = attached_tag(tag) else { return Vec::new() };
        let kind = match kind {
            "sig" => SIGNATURES,
            "att" => ATTESTATIONS,
            _ => return Vec::new(),
        };
        let names: Vec<_> = self.entries.iter().filter(|e| e.digest == image).flat_map(|e| &e.names).collect();
        let beside = |entry: &&Entry| {
            entry.kind.as_deref() == Some(kind)
                && (entry.names.is_empty() || entry.names.iter().any(|name| names.contains(&name)))
        };
        self.entries.iter().filter(beside).collect()
    }

    fn blob(&self, digest: &Sha256Digest, limit: usize) -> Answer<Bytes> {
        let path = self.folder.join("blobs").join("sha256").join(digest.hex());
        match read_bounded(&path, limit) {
            Ok(Some(body)) => Answer::Found(body.into()),
            Ok(None) => {
                let message = format!("{} is longer than {limit} bytes", path.display());
                Answer::Unknown(Unknown::new(UnknownCause::TooLarge, message))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Answer::None,
            Err(error) => {
                let message = format!("{}: {error}", path.display());
                Answer::Unknown(Unknown::new(UnknownCause::RegistryError, message))
            }
        }
    }
}

impl Entry {
    fn is_saved_beside(&self) -> bool {
        matches!(self.kind.as_deref(), Some(SIGNATURES | ATTESTATIONS))
    }

    fn is_image(&self) -> bool {
        !self.refers && !self.is_saved_beside() && !self.names.iter().any(|name| attached_tag(name).is_some())
    }
}

impl Transport for Layout {
    fn answer<'a>(&'a self, question: Question, _: BoxFuture<'a, Answer<Page>>) -> BoxFuture<'a, Answer<Page>> {
        // Small files of a local disk: a thread to wait for them would cost more than they do.
        async move { self.ask(&question) }.boxed()
    }
}

/// The digest and the suffix of a tag such as `sha256-<hex>.sig`; without one, that of the fallback tag.
fn attached_tag(tag: &str) -> Option<(Sha256Digest, &str)> {
    let name = tag.rsplit_once(':').map_or(tag, |(_, name)| name).strip_prefix("sha256-")?;
    let (hex, suffix) = name.split_once('.').unwrap_or((name, ""));
    Some((format!("sha256:{hex}").parse().ok()?, suffix))
}

fn page(media_type: &str, body: Bytes) -> Page {
    let mut headers = HeaderMap::new();
    let name: HeaderName = CONTENT_TYPE;
    if let Ok(value) = HeaderValue::from_str(media_type) {
        headers.insert(name, value);
    }
    Page { headers, body }
}

fn read_file(folder: &Path, name: &str) -> Result<Vec<u8>, LayoutError> {
    let path = folder.join(name);
    let shown = || path.display().to_string();
    match read_bounded(&path, MAX_MANIFEST) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(LayoutError::Malformed { path: shown(), why: format!("is longer than {MAX_MANIFEST} bytes") }),
        Err(source) => Err(LayoutError::Unreadable { path: shown(), source }),
    }
}

/// A regular file's bytes; `None` if there are more than `limit`.
fn read_bounded(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    // Whoever wrote the layout could have put a pipe there, which never ends.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}
