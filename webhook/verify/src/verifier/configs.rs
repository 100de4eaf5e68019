//! Which image a node runs, when all that it tells is the image's configuration.

use futures::FutureExt as _;
use tokio::time::Instant;
use zastava_crds::digest::Sha256Digest;

use super::{Resolved, Verifier, late};
use crate::{
    answer::{Answer, Unknown, UnknownCause},
    image::Platforms,
    keychain::Keychain,
    registry::{Manifest, Repository, config_of},
};

/// Runnable children whose configurations are read at most.
const MAX_CHILDREN: usize = 32;

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
        let name = image.name();
        let work = self.bounded(&name, find(&repository, &image.digest, config, platforms).boxed());
        match tokio::time::timeout_at(deadline, work).await {
            Ok(Ok(Ok(true))) => Answer::Found(()),
            Ok(Ok(Ok(false))) => Answer::None,
            Ok(Ok(Err(unknown)) | Err(unknown)) => Answer::Unknown(unknown),
            Err(_) => Answer::Unknown(late(&name)),
        }
    }
}

async fn find(
    repository: &Repository,
    digest: &Sha256Digest,
    config: &Sha256Digest,
    platforms: &Platforms,
) -> Result<bool, Unknown> {
    let read = async |digest: &Sha256Digest| match repository.manifest(digest).await {
        Answer::Found(content) => Ok(content),
        Answer::None => Err(Unknown::new(UnknownCause::ImageNotFound, format!("{digest}: no such manifest"))),
        Answer::Unknown(unknown) => Err(unknown),
    };
    let content = read(digest).await?;
    let Manifest::Index(children) = Manifest::read(&content)? else {
        return Ok(config_of(&content)? == *config);
    };
    let mut runnable: Vec<_> =
        children.into_iter().filter(|child| platforms.may_run(child.platform.as_ref())).collect();
    if runnable.len() > MAX_CHILDREN {
        let message = format!("{digest} has {} runnable children, more than {MAX_CHILDREN}", runnable.len());
        return Err(Unknown::new(UnknownCause::TooLarge, message));
    }
    // A child that can't be read is no answer, unless another is the one.
    let mut unknown = None;
    for child in runnable.drain(..) {
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
