//! What a runtime calls an image: each has its own ways to write a digest.

use k8s_cri::v1::{ContainerStatus, Image};
use zastava_crds::digest::{DigestKind, ImageDigest};

/// What cri-dockerd puts before references.
const DOCKER: [&str; 2] = ["docker-pullable://", "docker://"];

/// A reference without what cri-dockerd puts before it, as the runtime itself takes it.
pub fn plain(reference: &str) -> &str {
    DOCKER.iter().find_map(|before| reference.strip_prefix(before)).unwrap_or(reference)
}

/// The 64 digits of a configuration's digest: CRI-O writes them alone.
fn bare(id: &str) -> Option<&str> {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hex)
}

/// The image's name in the pod, as far as the runtime still knows it.
pub fn asked(status: &ContainerStatus) -> Option<String> {
    let spec = status.image.as_ref()?;
    let names = [&spec.user_specified_image, &spec.image].map(|name| plain(name));
    names.into_iter().find(|name| !name.is_empty() && bare(name).is_none()).map(str::to_owned)
}

/// The digest that was asked for, then what repositories call the image, then its configuration.
pub fn digests(asked: Option<&str>, image_ref: &str, image: Option<&Image>) -> Vec<ImageDigest> {
    let mut digests: Vec<ImageDigest> = Vec::new();
    let mut add = |kind: DigestKind, text: &str| {
        if let Ok(digest) = text.parse()
            && !digests.iter().any(|known| known.digest == digest)
        {
            digests.push(ImageDigest { kind, digest });
        }
    };
    let repositories = image.map(|image| image.repo_digests.as_slice()).unwrap_or_default();
    let names = asked.into_iter().chain(repositories.iter().map(String::as_str)).chain([image_ref]);
    for (_, digest) in names.filter_map(|name| name.split_once('@')) {
        add(DigestKind::Unresolved, digest);
    }
    // An event holds four at most: the configuration is never the one to go.
    let config = image.map_or(image_ref, |image| image.id.as_str());
    let config = bare(plain(config)).map(|hex| format!("sha256:{hex}"));
    digests.truncate(3);
    let mut add = |text: &str| {
        if let Ok(digest) = text.parse()
            && !digests.iter().any(|known| known.digest == digest)
        {
            digests.push(ImageDigest { kind: DigestKind::Config, digest });
        }
    };
    if let Some(config) = config {
        add(&config);
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: char) -> String {
        format!("sha256:{}", byte.to_string().repeat(64))
    }

    #[test]
    fn the_digest_asked_for_comes_first_and_the_configuration_last() {
        let image = Image {
            id: digest('c'),
            repo_digests: vec![format!("r.example/app@{}", digest('b')), format!("r.example/app@{}", digest('a'))],
            ..Image::default()
        };
        let asked = format!("r.example/app:v1@{}", digest('a'));
        let found = digests(Some(&asked), &digest('c'), Some(&image));
        let found: Vec<_> = found.iter().map(|d| (d.kind, d.digest.as_str().to_owned())).collect();
        assert_eq!(
            found,
            [
                (DigestKind::Unresolved, digest('a')),
                (DigestKind::Unresolved, digest('b')),
                (DigestKind::Config, digest('c'))
            ]
        );
        assert_eq!(digests(None, &digest('c'), None).len(), 1);
    }

    #[test]
    fn each_runtimes_way_to_write_a_configuration_is_read() {
        let hex = "c".repeat(64);
        for written in [hex.clone(), format!("sha256:{hex}"), format!("docker://sha256:{hex}")] {
            let found = digests(None, &written, None);
            assert_eq!(
                found,
                [ImageDigest { kind: DigestKind::Config, digest: digest('c').parse().unwrap() }],
                "{written}"
            );
        }
        let pullable = format!("docker-pullable://r.example/app@{}", digest('a'));
        assert_eq!(digests(None, &pullable, None)[0].digest.as_str(), digest('a'));
    }
}
