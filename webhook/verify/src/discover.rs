//! What is attached to an image: by the referrers API, by its fallback tag, and by cosign's legacy tags.
//!
//! What counts is the media type of a layer. The artifact type that a registry reports is a hint for the order only:
//! some report that of the config, ghcr.io reports the empty type.

use futures::{StreamExt as _, stream};
use zastava_crds::digest::Sha256Digest;

use crate::{
    answer::{Answer, Unknown, UnknownCause},
    check,
    registry::{Layer, Referrer, Referrers, Repository},
};

/// Attached manifests of one image that are read at most.
const MAX_MANIFESTS: usize = 50;
const CONCURRENCY: usize = 8;
const NOTATION: &str = "application/vnd.cncf.notary.signature";

/// How a candidate is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A Sigstore bundle.
    Bundle,
    /// A bare DSSE envelope.
    Envelope,
    /// Simple signing with a detached signature.
    SimpleSigning,
}

/// A layer that may be a signature or an attestation.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) form: Form,
    pub(crate) layer: Layer,
}

/// What one way of asking found. What could not be asked is kept beside it, never dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) candidates: Vec<Candidate>,
    /// Notation signatures: seen, and not verified.
    pub(crate) notation: usize,
    pub(crate) unknown: Vec<Unknown>,
}

/// By the referrers API. A registry without it has nothing here: [`by_tags`] is asked whenever this did not suffice,
/// because ghcr.io answers with an empty list although the fallback tag has entries.
pub(crate) async fn by_api(repository: &Repository, image: &Sha256Digest) -> Discovered {
    match repository.referrers(image).await {
        Referrers::Listed(referrers) => read(repository, referrers).await,
        Referrers::Unsupported => Discovered::default(),
        Referrers::Unknown(referrers, unknown) => {
            let mut discovered = read(repository, referrers).await;
            discovered.unknown.push(unknown);
            discovered
        }
    }
}

/// By tags: the referrers' fallback tag, and cosign's legacy `.sig` and `.att`.
pub(crate) async fn by_tags(repository: &Repository, image: &Sha256Digest) -> Discovered {
    let tag = format!("sha256-{}", image.hex());
    let (signatures, attestations) = (format!("{tag}.sig"), format!("{tag}.att"));
    let (mut discovered, signatures, attestations) = futures::join!(
        by_fallback_tag(repository, &tag),
        by_legacy_tag(repository, &signatures),
        by_legacy_tag(repository, &attestations)
    );
    discovered.add(signatures);
    discovered.add(attestations);
    discovered
}

async fn by_fallback_tag(repository: &Repository, tag: &str) -> Discovered {
    match repository.manifest_by_tag(tag).await {
        Answer::Found(content) => match crate::registry::referrers_of(&content) {
            Ok(referrers) => read(repository, referrers).await,
            Err(unknown) => Discovered::nothing_but(unknown),
        },
        Answer::None => Discovered::default(),
        Answer::Unknown(unknown) => Discovered::nothing_but(unknown),
    }
}

async fn by_legacy_tag(repository: &Repository, tag: &str) -> Discovered {
    match repository.manifest_by_tag(tag).await {
        Answer::Found(content) => Discovered::of(crate::registry::layers_of(&content)),
        Answer::None => Discovered::default(),
        Answer::Unknown(unknown) => Discovered::nothing_but(unknown),
    }
}

/// Reads the manifests of a list: those that say to be bundles first, each once.
async fn read(repository: &Repository, mut referrers: Vec<Referrer>) -> Discovered {
    let mut discovered = Discovered::default();
    referrers.retain(|referrer| {
        let notation = referrer.artifact_type.as_deref() == Some(NOTATION);
        discovered.notation += usize::from(notation);
        !notation
    });
    referrers.sort_by_key(|referrer| {
        !referrer.artifact_type.as_deref().is_some_and(|t| t.contains("sigstore") || t.contains("cosign"))
    });
    let mut seen = std::collections::HashSet::new();
    referrers.retain(|referrer| seen.insert(referrer.digest.clone()));
    if referrers.len() > MAX_MANIFESTS {
        let message = format!("{} artifacts are attached, more than {MAX_MANIFESTS}", referrers.len());
        discovered.unknown.push(Unknown::new(UnknownCause::TooLarge, message));
        referrers.truncate(MAX_MANIFESTS);
    }
    let manifests: Vec<_> = stream::iter(referrers)
        .map(|referrer| async move {
            match repository.manifest(&referrer.digest).await {
                Answer::Found(content) => Discovered::of(crate::registry::layers_of(&content)),
                // A registry that lists what it doesn't have can't say that there is nothing more.
                Answer::None => Discovered::nothing_but(Unknown::new(
                    UnknownCause::RegistryError,
                    format!("{} is listed as attached and missing", referrer.digest),
                )),
                Answer::Unknown(unknown) => Discovered::nothing_but(unknown),
            }
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    for manifest in manifests {
        discovered.add(manifest);
    }
    discovered
}

impl Discovered {
    fn of(layers: Result<Vec<Layer>, Unknown>) -> Self {
        match layers {
            Ok(layers) => Self { candidates: layers.into_iter().filter_map(candidate).collect(), ..Self::default() },
            // An attached manifest of a form that can't be read carries no signature that can; other causes stay unknown.
            Err(unknown) if unknown.cause == UnknownCause::Unsupported => Self::default(),
            Err(unknown) => Self::nothing_but(unknown),
        }
    }

    fn nothing_but(unknown: Unknown) -> Self {
        Self { unknown: vec![unknown], ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.candidates.extend(other.candidates);
        self.notation += other.notation;
        self.unknown.extend(other.unknown);
    }
}

fn candidate(layer: Layer) -> Option<Candidate> {
    let form = match layer.media_type.as_str() {
        bundle if check::is_bundle(bundle) => Form::Bundle,
        "application/vnd.dsse.envelope.v1+json" => Form::Envelope,
        "application/vnd.dev.cosign.simplesigning.v1+json" => Form::SimpleSigning,
        _ => return None,
    };
    Some(Candidate { form, layer })
}
