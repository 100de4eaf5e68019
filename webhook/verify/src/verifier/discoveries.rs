//! Discoveries shared by all policies of a request, and by all requests that come at once.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use moka::future::Cache;
use zastava_crds::digest::Sha256Digest;

use crate::{
    discover::{self, Discovered},
    registry::{Repository, Scope},
};

/// Long enough for the requests of one deployment, short enough that a signature made now counts soon.
const LIFETIME: Duration = Duration::from_secs(2);
/// How long a repository's habit is remembered.
const HABIT: Duration = Duration::from_hours(1);
const MAX_DISCOVERIES: u64 = 1024;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    repository: String,
    scope: Scope,
    image: Sha256Digest,
}

/// What is attached to which image.
pub(crate) struct Discoveries {
    by_api: Cache<Key, Arc<Discovered>>,
    by_tags: Cache<Key, Arc<Discovered>>,
    /// Repositories whose last images were met by tags alone.
    tagged: Cache<(String, Scope), ()>,
}

impl Discoveries {
    pub(super) fn new() -> Self {
        let cache = || Cache::builder().max_capacity(MAX_DISCOVERIES).time_to_live(LIFETIME).build();
        let tagged = Cache::builder().max_capacity(MAX_DISCOVERIES).time_to_live(HABIT).build();
        Self { by_api: cache(), by_tags: cache(), tagged }
    }

    pub(crate) async fn by_api(&self, repository: &Repository, image: &Sha256Digest) -> Arc<Discovered> {
        self.by_api
            .get_with(key(repository, image), async { Arc::new(discover::by_api(repository, image).await) }.boxed())
            .await
    }

    /// Asks for the tags of an image beside everything else, where this repository's signatures are found by tags:
    /// that saves a round trip, and costs requests elsewhere.
    pub(crate) async fn expect_tags(&self, repository: &Repository, image: &Sha256Digest) {
        if self.tagged.contains_key(&repository.identity()) {
            self.by_tags(repository, image).await;
        }
    }

    /// Tells by what an image was met.
    pub(crate) async fn met_by_tags(&self, repository: &Repository, tags: bool) {
        let identity = repository.identity();
        if tags {
            self.tagged.insert(identity, ()).await;
        } else if self.tagged.contains_key(&identity) {
            self.tagged.invalidate(&identity).await;
        }
    }

    pub(crate) async fn by_tags(&self, repository: &Repository, image: &Sha256Digest) -> Arc<Discovered> {
        self.by_tags
            .get_with(key(repository, image), async { Arc::new(discover::by_tags(repository, image).await) }.boxed())
            .await
    }
}

fn key(repository: &Repository, image: &Sha256Digest) -> Key {
    let (repository, scope) = repository.identity();
    Key { repository, scope, image: image.clone() }
}
