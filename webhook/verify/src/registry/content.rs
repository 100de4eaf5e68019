//! What manifests say, read once and bounded.

use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use zastava_crds::digest::{DigestKind, ImageDigest, Sha256Digest};

use crate::{
    answer::{Unknown, UnknownCause},
    image::Platform,
};

/// Children of one index at most.
const MAX_CHILDREN: usize = 128;
/// Layers of one image at most.
const MAX_IMAGE_LAYERS: usize = 1024;
/// Layers of one manifest that carries signatures at most.
const MAX_LAYERS: usize = 64;

/// Bytes and their digest.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) digest: Sha256Digest,
    pub(crate) media_type: Option<String>,
    pub(crate) body: Bytes,
}

/// What a manifest is.
#[derive(Clone, Debug)]
pub(crate) enum Manifest {
    Index(Vec<Child>),
    Image,
}

/// A child of an index.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) digest: ImageDigest,
    pub(crate) platform: Option<Platform>,
}

/// A manifest that refers to an image.
#[derive(Clone, Debug)]
pub(crate) struct Referrer {
    pub(crate) digest: Sha256Digest,
    /// As the registry reports it: a hint for the order, and no more.
    pub(crate) artifact_type: Option<String>,
}

/// A layer that may be a signature.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) media_type: String,
    pub(crate) digest: Sha256Digest,
    pub(crate) size: u64,
    /// What stands beside it.
    pub(crate) beside: Annotations,
    /// What its publisher says the predicate is: a hint for what to fetch, and no more.
    pub(crate) predicate_type: Option<String>,
}

/// What cosign's legacy layout keeps beside a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Annotations {
    /// `dev.cosignproject.cosign/signature`.
    pub(crate) signature: Option<String>,
    /// `dev.sigstore.cosign/certificate`, PEM.
    pub(crate) certificate: Option<String>,
    /// `dev.sigstore.cosign/chain`, PEM.
    pub(crate) chain: Option<String>,
    /// `dev.sigstore.cosign/bundle`: the log's promise.
    pub(crate) log: Option<String>,
    /// `dev.sigstore.cosign/rfc3161timestamp`.
    pub(crate) timestamp: Option<String>,
}

/// Which of the forms a document has: one that has both is read differently by different readers (CVE-2021-41190).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl Child {
    /// Attestations that build tools put into an index say that they are for no platform: no runtime picks them.
    pub(crate) fn is_image(&self) -> bool {
        !self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }
}

impl Manifest {
    pub(crate) fn kind(&self) -> DigestKind {
        match self {
            Self::Index(_) => DigestKind::Index,
            Self::Image => DigestKind::Manifest,
        }
    }

    /// From a manifest's bytes.
    pub(crate) fn read(content: &Content) -> Result<Self, Unknown> {
        let unsupported = |why: &str| Unknown::new(UnknownCause::Unsupported, format!("{} is {why}", content.digest));
        let form: Form = serde_json::from_slice(&content.body).map_err(|_| unsupported("not a manifest"))?;
        let media_type = form.media_type.as_deref().or(content.media_type.as_deref()).unwrap_or_default();
        let says_index = media_type.contains("index") || media_type.contains("manifest.list");
        let is_index = match (form.manifests.is_some(), form.config.is_some() || form.layers.is_some()) {
            (true, true) => {
                return Err(Unknown::new(
                    UnknownCause::Integrity,
                    format!("{} is index and image at once", content.digest),
                ));
            }
            (true, false) => true,
            (false, true) => false,
            (false, false) => return Err(unsupported("neither an index nor an image manifest")),
        };
        if form.media_type.is_some() && says_index != is_index {
            let message = format!("{} says it is {media_type:.80} and is not", content.digest);
            return Err(Unknown::new(UnknownCause::Integrity, message));
        }
        if !is_index {
            return Ok(Self::Image);
        }
        let index: ImageIndex =
            serde_json::from_slice(&content.body).map_err(|_| unsupported("not a readable index"))?;
        if index.manifests().len() > MAX_CHILDREN {
            let message =
                format!("{} has {} children, more than {MAX_CHILDREN}", content.digest, index.manifests().len());
            return Err(Unknown::new(UnknownCause::TooLarge, message));
        }
        index
            .manifests()
            .iter()
            .map(child)
            .collect::<Option<Vec<_>>>()
            .map(Self::Index)
            .ok_or_else(|| unsupported("an index with digests other than sha256"))
    }
}

fn child(descriptor: &Descriptor) -> Option<Child> {
    let media_type = descriptor.media_type().to_string();
    let kind = if media_type.contains("index") || media_type.contains("manifest.list") {
        DigestKind::Index
    } else {
        DigestKind::Manifest
    };
    let platform = descriptor
        .platform()
        .as_ref()
        .map(|platform| Platform { os: platform.os().to_string(), architecture: platform.architecture().to_string() });
    Some(Child { digest: ImageDigest { kind, digest: sha256(descriptor)? }, platform })
}

/// The configuration that an image's manifest names.
pub(crate) fn config(content: &Content) -> Result<Sha256Digest, Unknown> {
    let manifest: Option<ImageManifest> = serde_json::from_slice(&content.body).ok();
    manifest.and_then(|manifest| sha256(manifest.config())).ok_or_else(|| {
        Unknown::new(UnknownCause::Unsupported, format!("{} names no configuration by sha256", content.digest))
    })
}

/// The referrers that the index under a fallback tag lists.
pub(crate) fn referrers(content: &Content) -> Result<Vec<Referrer>, Unknown> {
    listed(&content.body).map_err(|_| {
        Unknown::new(UnknownCause::RegistryError, format!("{} is no readable list of referrers", content.digest))
    })
}

/// The referrers in one answer of the referrers API.
pub(super) fn listed(body: &[u8]) -> Result<Vec<Referrer>, serde_json::Error> {
    let index: ImageIndex = serde_json::from_slice(body)?;
    let read = |descriptor: &Descriptor| {
        let artifact_type = descriptor.artifact_type().as_ref().map(ToString::to_string);
        Some(Referrer { digest: sha256(descriptor)?, artifact_type })
    };
    Ok(index.manifests().iter().filter_map(read).collect())
}

/// The layers of a manifest that carries signatures.
pub(crate) fn layers(content: &Content) -> Result<Vec<Layer>, Unknown> {
    let manifest: ImageManifest = serde_json::from_slice(&content.body).map_err(|_| {
        Unknown::new(UnknownCause::Unsupported, format!("{} is not a readable manifest", content.digest))
    })?;
    if manifest.layers().len() > MAX_LAYERS {
        let message = format!("{} has {} layers, more than {MAX_LAYERS}", content.digest, manifest.layers().len());
        return Err(Unknown::new(UnknownCause::TooLarge, message));
    }
    let of_manifest = |key: &str| manifest.annotations().as_ref().and_then(|all| all.get(key)).cloned();
    let read = |descriptor: &Descriptor| {
        let of_layer = |key: &str| descriptor.annotations().as_ref().and_then(|all| all.get(key)).cloned();
        Some(Layer {
            media_type: descriptor.media_type().to_string(),
            digest: sha256(descriptor)?,
            size: descriptor.size(),
            beside: Annotations {
                signature: of_layer("dev.cosignproject.cosign/signature"),
                certificate: of_layer("dev.sigstore.cosign/certificate"),
                chain: of_layer("dev.sigstore.cosign/chain"),
                log: of_layer("dev.sigstore.cosign/bundle"),
                timestamp: of_layer("dev.sigstore.cosign/rfc3161timestamp"),
            },
            predicate_type: of_layer("predicateType").or_else(|| of_manifest("dev.sigstore.bundle.predicateType")),
        })
    };
    Ok(manifest.layers().iter().filter_map(read).collect())
}

/// The layers of an image by digest, the lowest first.
pub(crate) fn layer_digests(content: &Content) -> Result<Vec<Sha256Digest>, Unknown> {
    let unsupported = |why: &str| Unknown::new(UnknownCause::Unsupported, format!("{} {why}", content.digest));
    let manifest: ImageManifest =
        serde_json::from_slice(&content.body).map_err(|_| unsupported("is not a readable manifest"))?;
    let layers = manifest.layers();
    if layers.len() > MAX_IMAGE_LAYERS {
        let message = format!("{} has {} layers, more than {MAX_IMAGE_LAYERS}", content.digest, layers.len());
        return Err(Unknown::new(UnknownCause::TooLarge, message));
    }
    let digests = layers.iter().map(sha256).collect::<Option<Vec<_>>>();
    digests.ok_or_else(|| unsupported("has layers with digests other than sha256"))
}

/// The base image that a manifest says its image was built on: a hint what to look at first, and no more.
pub(crate) fn base_hint(content: &Content) -> Option<Sha256Digest> {
    let manifest: ImageManifest = serde_json::from_slice(&content.body).ok()?;
    manifest.annotations().as_ref()?.get("org.opencontainers.image.base.digest")?.parse().ok()
}

fn sha256(descriptor: &Descriptor) -> Option<Sha256Digest> {
    descriptor.digest().to_string().parse().ok()
}
