//! Layers of the base images that policies pin, asked of their registries once.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use moka::future::Cache;
use zastava_crds::digest::Sha256Digest;

use crate::{
    answer::Unknown,
    image::{ImageReference, Platforms},
    keychain::Keychain,
    registry::{Manifest, Registry, Repository, Scope, layer_digests},
    runnable::runnable,
};

/// What a digest stands for does not change; memory is the only reason to forget.
const LIFETIME: Duration = Duration::from_hours(1);
const MAX_BASES: u64 = 512;
const CONCURRENCY: usize = 4;

/// Layers of an image, the lowest first; never none.
pub(crate) type Layers = Arc<[Sha256Digest]>;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    repository: String,
    scope: Scope,
    base: Sha256Digest,
}

/// Layers by base image.
pub(crate) struct Bases {
    registry: Registry,
    known: Cache<Key, Arc<[Layers]>>,
}

impl Bases {
    pub(super) fn new(registry: Registry) -> Self {
        let known = Cache::builder().max_capacity(MAX_BASES).time_to_live(LIFETIME).build();
        Self { registry, known }
    }

    /// The layers of a base image: one list for an image, one a child for an index. What can't be asked is unknown.
    pub(crate) async fn layers(
        &self,
        base: &ImageReference,
        digest: &Sha256Digest,
        keychain: &Keychain,
    ) -> Result<Arc<[Layers]>, Unknown> {
        let repository = self.registry.repository(base, keychain);
        let (name, scope) = repository.identity();
        let key = Key { repository: name, scope, base: digest.clone() };
        let shown = format!("the base image {}@{digest}", base.canonical());
        let known = self.known.try_get_with(key, read(&repository, digest, &shown).boxed()).await;
        known.map_err(|unknown| (*unknown).clone())
    }
}

async fn read(repository: &Repository, digest: &Sha256Digest, shown: &str) -> Result<Arc<[Layers]>, Unknown> {
    let absent = || format!("{shown} is not in its registry");
    let content = repository.manifest(digest).await.or_no_image(absent)?;
    let children = match Manifest::read(&content)? {
        Manifest::Image => return Ok([Layers::from(layer_digests(&content)?)].into()),
        Manifest::Index(children) => runnable(children, &Platforms::Any, shown)?,
    };
    let layers: Vec<Layers> = stream::iter(children)
        .map(|child| async move {
            let content = repository.manifest(&child.digest.digest).await.or_no_image(absent)?;
            layer_digests(&content).map(Layers::from)
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(layers.into())
}
