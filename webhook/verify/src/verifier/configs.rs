//! Which image a node runs, when all that it tells is the image's configuration.

use futures::FutureExt as _;
use tokio::time::Instant;
use zastava_crds::digest::Sha256Digest;

use super::{Resolved, Verifier, late};
use crate::{
    answer::{Answer, Unknown},
    image::Platforms,
    keychain::Keychain,
    registry::{Manifest, Repository, config_of},
    runnable::runnable,
};

impl Verifier {
    /// Whether a digest names an image with this configuration: it does so itself, or a child for one of these platforms
    /// does. Nothing is proven by that: it only says which digest there is to ask about.
    pub async fn has_config(
        &self,
        image: &Resolved,
        config: &Sha256Digest,
        platforms: &Platforms,
        keychain: &Keychain,
        deadline: Instant,
    ) -> Answer<()> {
        let repository = self.registry.repository(&image.image, keychain);
        let work = self.bounded(image, find(&repository, &image.digest, config, platforms).boxed());
        match tokio::time::timeout_at(deadline, work).await {
            Ok(Ok(Ok(true))) => Answer::Found(()),
            Ok(Ok(Ok(false))) => Answer::None,
            Ok(Ok(Err(unknown)) | Err(unknown)) => Answer::Unknown(unknown),
            Err(_) => Answer::Unknown(late(&image.name())),
        }
    }
}

async fn find(
    repository: &Repository,
    digest: &Sha256Digest,
    config: &Sha256Digest,
    platforms: &Platforms,
) -> Result<bool, Unknown> {
    let read = async |digest: &Sha256Digest| {
        repository.manifest(digest).await.or_no_image(|| format!("{digest}: no such manifest"))
    };
    let content = read(digest).await?;
    let Manifest::Index(children) = Manifest::read(&content)? else {
        return Ok(config_of(&content)? == *config);
    };
    // A child that can't be read is no answer, unless another is the one.
    let mut unknown = None;
    for child in runnable(children, platforms, digest.as_str())? {
        let found = async {
            let content = read(&child.digest.digest).await?;
            match Manifest::read(&content)? {
                Manifest::Image => Ok(config_of(&content)? == *config),
                Manifest::Index(_) => Ok(false),
            }
        };
        match found.await {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(why) => unknown = unknown.or(Some(why)),
        }
    }
    unknown.map_or(Ok(false), Err)
}
