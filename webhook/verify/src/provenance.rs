//! SLSA provenance, as far as the images that a build used go.

use std::collections::HashMap;

use reqwest::Url;
use serde::Deserialize;
use zastava_crds::digest::Sha256Digest;

use crate::{image::ImageReference, requirement::BaseImages, text::bounded};

/// The predicate types that are read.
pub(crate) const TYPES: [&str; 2] = ["https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"];
/// Things that one build used, at most.
const MAX_MATERIALS: usize = 4096;
/// Longest part of a message that a document chooses.
const MAX_TEXT: usize = 160;

pub(crate) fn is_provenance(predicate_type: &str) -> bool {
    TYPES.contains(&predicate_type)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    /// Version 1.
    build_definition: Option<BuildDefinition>,
    /// Version 0.2.
    materials: Option<Vec<Material>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    resolved_dependencies: Option<Vec<Material>>,
}

/// Something that a build used.
#[derive(Deserialize)]
struct Material {
    uri: Option<String>,
    digest: Option<HashMap<String, String>>,
}

/// An image that a build used.
#[derive(Debug, PartialEq, Eq)]
struct BuildImage {
    /// `host/repository`, if it is said.
    name: Option<String>,
    /// What it was, if it is said.
    digest: Option<Sha256Digest>,
}

/// Whether all images that a build used are known, and it used one; the error says what is not known. The payload is
/// that of a signed statement.
pub(crate) fn uses_known(payload: &[u8], base: &BaseImages) -> Result<(), String> {
    let statement: Statement = serde_json::from_slice(payload)
        .map_err(|error| format!("a provenance that can't be read: {}", bounded(&error, MAX_TEXT)))?;
    let Predicate { build_definition, materials } = statement.predicate;
    let materials = if statement.predicate_type == TYPES[0] {
        build_definition.and_then(|definition| definition.resolved_dependencies)
    } else {
        materials
    };
    let materials = materials.unwrap_or_default();
    if materials.len() > MAX_MATERIALS {
        return Err(format!("unsupported: too large: a provenance with {} materials", materials.len()));
    }
    let mut images = 0;
    for material in materials {
        // It may be an image by another name.
        let uri = material.uri.as_ref().ok_or("built from something without a uri")?;
        let Some(image) = image(uri) else { continue };
        images += 1;
        let shown = bounded(uri, MAX_TEXT);
        let image = image.and_then(|image| image.with(material.digest.as_ref()));
        let image = image.map_err(|why| format!("built from {shown}, which {why}"))?;
        let digest = image.digest.ok_or_else(|| format!("built from {shown}, of which no digest is said"))?;
        if !base.known().iter().any(|known| known.is(image.name.as_deref(), &digest)) {
            return Err(format!("built from {shown} ({digest}), which is not among the policy's baseImages"));
        }
    }
    if images == 0 { Err("a provenance that names no image it was built from".to_owned()) } else { Ok(()) }
}

/// The image that a URI stands for; `None` if it stands for something else.
fn image(uri: &str) -> Option<Result<BuildImage, &'static str>> {
    if uri.contains(char::is_control) {
        return Some(Err("has characters that no URI has"));
    }
    let (scheme, rest) = uri.trim_start().split_once(':')?;
    match (scheme.to_ascii_lowercase().as_str(), rest.strip_prefix("//")) {
        ("oci" | "docker" | "docker-image", Some(reference)) => Some(by_reference(reference)),
        ("pkg", _) => {
            // Slashes in front mean nothing, and an authority least of all.
            let rest = rest.trim_start_matches('/');
            let kind = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
            matches!(kind.as_str(), "docker" | "oci").then(|| by_purl(rest, &kind))
        }
        _ => None,
    }
}

fn by_reference(reference: &str) -> Result<BuildImage, &'static str> {
    let image: ImageReference = reference.parse().map_err(|_| "is no image reference")?;
    Ok(BuildImage { name: Some(image.canonical()), digest: image.digest().cloned() })
}

/// <https://github.com/package-url/purl-spec>: a docker purl names the image as its reference does, with the host in
/// front or in `repository_url`; an oci purl names it in `repository_url` alone. `rest` is what follows the scheme.
fn by_purl(rest: &str, kind: &str) -> Result<BuildImage, &'static str> {
    const MALFORMED: &str = "is no package URL";
    let url = Url::parse(&format!("pkg:{rest}")).map_err(|_| MALFORMED)?;
    let path = url.path().split_once('/').map(|(_, path)| path).ok_or(MALFORMED)?;
    let (path, version) = path.rsplit_once('@').map_or((path, None), |(path, version)| (path, Some(version)));
    let name = path.replace("%2F", "/").replace("%2f", "/").replace("%3A", ":").replace("%3a", ":");
    let version = version.map(|version| version.replace("%3A", ":").replace("%3a", ":"));
    if name.is_empty() || name.contains('%') {
        return Err(MALFORMED);
    }
    let mut repository = None;
    for (key, value) in url.query_pairs() {
        if key == "repository_url" && repository.replace(value.into_owned()).is_some() {
            return Err(MALFORMED);
        }
    }
    let repository = repository.map(|url| {
        let url = url.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        url.to_owned()
    });
    let written = match (kind, repository) {
        ("docker", Some(host)) => Some(format!("{host}/{name}")),
        ("docker", None) => Some(name),
        (_, repository) => repository,
    };
    let name = match written {
        Some(written) => Some(written.parse::<ImageReference>().map_err(|_| MALFORMED)?.canonical()),
        None => None,
    };
    let digest = match version {
        Some(version) if version.starts_with("sha256:") => Some(version.parse().map_err(|_| MALFORMED)?),
        _ => None,
    };
    Ok(BuildImage { name, digest })
}

impl BuildImage {
    /// With the digest that stands beside the URI; both must be the same.
    fn with(self, beside: Option<&HashMap<String, String>>) -> Result<Self, &'static str> {
        let Some(hex) = beside.and_then(|digests| digests.get("sha256")) else { return Ok(self) };
        let digest: Sha256Digest = format!("sha256:{hex}").parse().map_err(|_| "has a digest that is none")?;
        if self.digest.as_ref().is_some_and(|written| *written != digest) {
            return Err("has two digests that differ");
        }
        Ok(Self { digest: Some(digest), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn images_are_told_by_every_form_that_builders_write() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let named = |name: &str, digest: Option<&str>| {
            Some(Ok(BuildImage { name: Some(name.to_owned()), digest: digest.map(|digest| digest.parse().unwrap()) }))
        };
        let encoded = digest.replace(':', "%3A");
        for (uri, expected) in [
            ("pkg:docker/debian@12?platform=linux%2Famd64".to_owned(), named("docker.io/library/debian", None)),
            ("pkg:docker/ghcr.io/team/base@1".to_owned(), named("ghcr.io/team/base", None)),
            ("pkg:docker/team/base@1?repository_url=quay.io".to_owned(), named("quay.io/team/base", None)),
            (format!("pkg:docker/debian@{digest}"), named("docker.io/library/debian", Some(&digest))),
            (
                format!("pkg:oci/base@{encoded}?repository_url=ghcr.io/team/base&tag=1"),
                named("ghcr.io/team/base", Some(&digest)),
            ),
            (format!("pkg:oci/base@{encoded}"), Some(Ok(BuildImage { name: None, digest: digest.parse().ok() }))),
            (format!("oci://ghcr.io/team/base@{digest}"), named("ghcr.io/team/base", Some(&digest))),
            ("PKG:Docker/ghcr.io/team/base@1".to_owned(), named("ghcr.io/team/base", None)),
            ("pkg://docker/ghcr.io/team/base@1".to_owned(), named("ghcr.io/team/base", None)),
            ("pkg:/docker/debian@12".to_owned(), named("docker.io/library/debian", None)),
            (format!("OCI://ghcr.io/team/base@{digest}"), named("ghcr.io/team/base", Some(&digest))),
            (
                format!("docker-image://docker.io/library/debian:12@{digest}"),
                named("docker.io/library/debian", Some(&digest)),
            ),
            ("git+https://git.example.org/team/app".to_owned(), None),
            ("pkg:npm/left-pad@1.0".to_owned(), None),
            ("https://example.org/pkg:docker/debian".to_owned(), None),
        ] {
            assert_eq!(image(&uri), expected, "{uri}");
        }
        for malformed in [
            "pkg:docker/",
            "pkg:docker/de%00bian@1",
            "pkg:docker/debian@sha256:ab",
            "pkg:docker/debian?repository_url=a.io&repository_url=b.io",
            "oci://",
            "PKG:docker",
            "pkg:doc\tker/debian",
            "\u{1}pkg:docker/debian",
        ] {
            assert!(matches!(image(malformed), Some(Err(_))), "{malformed}");
        }
    }
}
