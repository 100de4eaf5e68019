//! What a container runs: by the digest that really runs, which is not always the one that its spec names.

use zastava_crds::digest::Sha256Digest;
use zastava_verify::image::ImageReference;

/// What dockershim put before the ids of images.
const DOCKER: [&str; 2] = ["docker-pullable://", "docker://"];

/// An image as it runs, in the form that questions about it are asked in: equal for all containers that run the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Running {
    /// Its digest is known.
    Digest {
        /// In the repository that the pod's spec names.
        at: ImageReference,
        /// In the repository that the node names instead: the runtime tells any repository that holds the same image.
        or: Option<ImageReference>,
    },
    /// Its configuration is known alone: the image was not pulled by this name, or not pulled at all.
    Config {
        /// What the pod's spec names; its digest is to be found.
        named: ImageReference,
        /// containerd's image id.
        config: Sha256Digest,
    },
    /// It can't be said what runs, and why.
    Unknown(&'static str),
}

impl Running {
    /// From the reference in the pod's spec and the `imageID` of the container's status.
    pub(super) fn of(named: &ImageReference, image_id: &str) -> Self {
        if let Some(digest) = named.digest() {
            return Self::at(named, digest, None);
        }
        let id = DOCKER.iter().find_map(|prefix| image_id.strip_prefix(prefix)).unwrap_or(image_id);
        if let Some((_, digest)) = id.split_once('@') {
            let Ok(digest) = digest.parse() else {
                return Self::Unknown("its node names it by a digest that is not sha256");
            };
            let told = id.parse::<ImageReference>().ok().filter(|told| told.canonical() != named.canonical());
            // A node speaks of its own pods only: it must not send the operator to any registry it likes.
            let or = told.filter(|told| told.host() == named.host());
            return Self::at(named, &digest, or);
        }
        match (id.parse(), canonical(named, named.tag().unwrap_or("latest"))) {
            (Ok(config), Some(named)) => Self::Config { named, config },
            _ => Self::Unknown("its node does not say which digest runs: name the image by its digest"),
        }
    }

    /// Of an image volume: no status of a pod tells which digest is mounted.
    pub(super) fn of_volume(named: &ImageReference) -> Self {
        match named.digest() {
            Some(digest) => Self::at(named, digest, None),
            None => Self::Unknown("nothing says which digest of an image volume is mounted: name it by its digest"),
        }
    }

    fn at(named: &ImageReference, digest: &Sha256Digest, or: Option<ImageReference>) -> Self {
        let pinned = format!("{}@{digest}", named.canonical()).parse();
        pinned.map_or(Self::Unknown("its reference can't be read"), |at| Self::Digest { at, or })
    }

    /// The digest, where it is known.
    pub(super) fn digest(&self) -> Option<&Sha256Digest> {
        match self {
            Self::Digest { at, .. } => at.digest(),
            Self::Config { .. } | Self::Unknown(_) => None,
        }
    }
}

/// One form for each image, however it is written.
fn canonical(named: &ImageReference, tag: &str) -> Option<ImageReference> {
    format!("{}:{tag}", named.canonical()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
    const E: &str = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

    fn told(image: &str, id: &str) -> String {
        match Running::of(&image.parse().unwrap(), id) {
            Running::Digest { at, or } => {
                let or = or.map(|or| format!(" or {or}")).unwrap_or_default();
                format!("{at}{or}")
            }
            Running::Config { named, config } => format!("{named} with {config}"),
            Running::Unknown(_) => "unknown".to_owned(),
        }
    }

    #[test]
    fn the_spec_comes_first_then_a_repository_digest_then_the_configuration_and_else_nothing_is_said() {
        let spec = format!("nginx:1@{D}");
        assert_eq!(told(&spec, &format!("docker.io/library/nginx@{E}")), format!("docker.io/library/nginx@{D}"));
        assert_eq!(told("nginx:1", &format!("docker.io/library/nginx@{E}")), format!("docker.io/library/nginx@{E}"));
        assert_eq!(told("nginx", E), format!("docker.io/library/nginx:latest with {E}"));
        assert_eq!(told("nginx", &format!("docker://{E}")), format!("docker.io/library/nginx:latest with {E}"));
        for id in ["", "sha256:short", "something", "docker.io/library/nginx@sha512:abc"] {
            assert_eq!(told("nginx:1", id), "unknown", "{id}");
        }
    }

    #[test]
    fn another_repository_that_the_node_names_is_asked_on_the_same_host_only() {
        let near = format!("registry.example/mirror/app@{D}");
        assert_eq!(told("registry.example/app:1", &near), format!("registry.example/app@{D} or {near}"));
        assert_eq!(
            told("registry.example/app:1", &format!("evil.example/app@{D}")),
            format!("registry.example/app@{D}")
        );
    }

    #[test]
    fn an_image_volume_is_known_by_its_spec_alone() {
        let volume = |image: &str| Running::of_volume(&image.parse().unwrap());
        assert_eq!(volume(&format!("registry.example/data:1@{D}")).digest(), Some(&D.parse().unwrap()));
        assert!(matches!(volume("registry.example/data:1"), Running::Unknown(_)));
    }
}
