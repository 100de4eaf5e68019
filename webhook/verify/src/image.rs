//! Images by name, and the platforms they are for.

use std::{collections::BTreeMap, fmt, str::FromStr};

use globset::{Glob, GlobBuilder};
use oci_client::Reference;
use zastava_crds::digest::Sha256Digest;

/// Other names under which Docker Hub serves the same images.
const DOCKER_HUB: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// A reference as it was written, and what it names: `host/repository` in canonical form, tag and digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    written: String,
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Sha256Digest>,
}

/// Text that is no image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// It does not parse.
    #[error("{reference:?} is not an image reference: {why}")]
    Malformed {
        /// As written, at most 330 characters.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its digest is of another algorithm.
    #[error("{reference:?}: only sha256 digests can be verified")]
    UnsupportedDigest {
        /// As written.
        reference: String,
    },
}

impl ReferenceError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "reference_malformed",
            Self::UnsupportedDigest { .. } => "reference_digest",
        }
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(written: &str) -> Result<Self, ReferenceError> {
        let malformed = |why: String| ReferenceError::Malformed { reference: written.chars().take(330).collect(), why };
        let parsed: Reference = written.parse().map_err(|e: oci_client::ParseError| malformed(e.to_string()))?;
        let digest =
            match parsed.digest() {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| ReferenceError::UnsupportedDigest {
                    reference: written.chars().take(330).collect(),
                })?),
            };
        Ok(Self {
            written: written.to_owned(),
            host: parsed.registry().to_owned(),
            repository: parsed.repository().to_owned(),
            tag: parsed.tag().map(str::to_owned),
            digest,
        })
    }
}

impl ImageReference {
    /// As it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Registry, `docker.io` for short names; with its port if one was written.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Repository, with `library/` for Docker Hub's short names.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `host/repository`: the form that globs match. Ways to write one host are one name: a scope must not be left by
    /// capitals, by the port that is meant anyway, or by another name of Docker Hub.
    pub fn canonical(&self) -> String {
        let host = self.host.to_ascii_lowercase();
        let host = host.strip_suffix(":443").unwrap_or(&host);
        let host = if DOCKER_HUB.contains(&host) { "docker.io" } else { host };
        format!("{host}/{}", self.repository)
    }

    /// The tag; absent if a digest was written without one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned.
    pub fn digest(&self) -> Option<&Sha256Digest> {
        self.digest.as_ref()
    }

    /// The written form with `@digest` behind its tag: what a pod is pinned to.
    pub fn pinned(&self, digest: &Sha256Digest) -> String {
        let unpinned = self.written.split_once('@').map_or(self.written.as_str(), |(name, _)| name);
        format!("{unpinned}@{digest}")
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// A glob on the canonical `host/repository`: `*` stays within one path segment, `**` does not.
pub fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).backslash_escape(false).build()
}

/// What a manifest was built for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// As GOOS, such as `linux`.
    pub os: String,
    /// As GOARCH, such as `arm64`.
    pub architecture: String,
}

impl Platform {
    /// What a node says of itself by its labels.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            os: labels.get("kubernetes.io/os")?.clone(),
            architecture: labels.get("kubernetes.io/arch")?.clone(),
        })
    }

    /// Whether a node of this platform may run content built for `built`: container runtimes fall back to the 32-bit
    /// sibling (<https://github.com/containerd/platforms/blob/main/compare.go>), so that counts as runnable too.
    fn may_run(&self, built: &Self) -> bool {
        let (os, architecture) = self.normal();
        let (built_os, built_architecture) = built.normal();
        let same = |node: &str, built: &str| node.is_empty() || built.is_empty() || node == built;
        let falls_back =
            matches!((architecture.as_str(), built_architecture.as_str()), ("amd64", "386") | ("arm64", "arm"));
        same(&os, &built_os) && (same(&architecture, &built_architecture) || falls_back)
    }

    /// Operating system and architecture as runtimes compare them
    /// (<https://github.com/containerd/platforms/blob/main/database.go>): a child that they run under another name must
    /// not be passed over. An empty one is that of the host there, so it is no name of another.
    fn normal(&self) -> (String, String) {
        let (os, architecture) = (lower(&self.os), lower(&self.architecture));
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        let architecture = match architecture.as_str() {
            "i386" => "386",
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "armhf" | "armel" => "arm",
            _ => return (os, architecture),
        };
        (os, architecture.to_owned())
    }
}

/// Lower case as Go has it: one character for each, so that İ is i.
fn lower(text: &str) -> String {
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// The platforms an image may be asked to run on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Platforms {
    /// Not known: every runnable child of an index counts.
    Any,
    /// Those of the cluster's nodes, sorted.
    Only(Vec<Platform>),
}

impl Platforms {
    /// From the nodes' platforms; none known means any.
    pub fn of(nodes: impl IntoIterator<Item = Platform>) -> Self {
        let mut platforms: Vec<_> = nodes.into_iter().collect();
        platforms.sort();
        platforms.dedup();
        if platforms.is_empty() { Self::Any } else { Self::Only(platforms) }
    }

    /// Whether content built for `built` may run. Content that names no platform is judged by its config at the
    /// runtime, so it may run anywhere.
    pub fn may_run(&self, built: Option<&Platform>) -> bool {
        match (self, built) {
            (Self::Any, _) | (_, None) => true,
            (Self::Only(platforms), Some(built)) => platforms.iter().any(|node| node.may_run(built)),
        }
    }
}
