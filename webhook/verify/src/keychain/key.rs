//! Keys of docker configs: whose registries and repositories their credentials are for.

use std::{collections::HashMap, sync::Arc};

use globset::{GlobBuilder, GlobMatcher};

/// Characters of a host at most, as DNS has it: each label may be a glob.
const MAX_HOST: usize = 253;
/// Bytes that a compiled glob takes, as measured.
pub(super) const GLOB_WEIGHT: usize = 16 * 1024;

/// The globs of one config by their texts: equal ones are compiled once.
pub(super) type Compiled = HashMap<String, Arc<GlobMatcher>>;

/// A key of a docker config, such as `*.registry.example:5000/team`.
#[derive(Debug)]
pub(super) struct Key {
    /// Those of the host: a glob never spans a dot.
    labels: Vec<Label>,
    port: Option<String>,
    path: String,
    /// Host and path: keys are tried in the reverse order of these, so that a longer path comes before a shorter one.
    pub(super) effective: String,
}

/// One label of a key's host. Hardly any is a glob, and a compiled one is large.
#[derive(Debug)]
enum Label {
    Name(String),
    Glob(Arc<GlobMatcher>),
}

impl Key {
    pub(super) fn parse(written: &str, globs: &mut Compiled) -> Option<Self> {
        let bare = written.strip_prefix("https://").or_else(|| written.strip_prefix("http://")).unwrap_or(written);
        let (authority, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
        // Docker Hub's keys begin with its API's version, which is no path of a repository.
        let path = if path.starts_with("/v1/") || path.starts_with("/v2/") { &path[3..] } else { path };
        let path = if path == "/" { "" } else { path };
        let (host, port) = split_port(authority);
        let host = canonical_host(host);
        // Alternatives are this library's own, and no host has such a letter.
        if host.len() > MAX_HOST || host.contains(['{', '}']) {
            return None;
        }
        let labels = host.split('.').map(|label| Label::parse(label, globs)).collect::<Option<Vec<_>>>()?;
        let effective = format!("{authority}{path}");
        Some(Self { labels, port: port.map(str::to_owned), path: path.to_owned(), effective })
    }

    pub(super) fn matches(&self, host: &str, repository: &str) -> bool {
        let (name, port) = split_port(host);
        let labels: Vec<_> = canonical_host(name).split('.').collect();
        // The kubelet compares letters, not segments: `images` is a key for `images2` as well.
        let in_path = self.path.strip_prefix('/').is_none_or(|path| repository.starts_with(path));
        self.port.as_deref() == port
            && labels.len() == self.labels.len()
            && self.labels.iter().zip(labels).all(|(written, label)| written.matches(label))
            && in_path
    }

    pub(super) fn globs(&self) -> impl Iterator<Item = &Arc<GlobMatcher>> {
        self.labels.iter().filter_map(|label| match label {
            Label::Name(_) => None,
            Label::Glob(glob) => Some(glob),
        })
    }
}

impl Label {
    fn parse(written: &str, globs: &mut Compiled) -> Option<Self> {
        if !written.contains(['*', '?', '[', '\\']) {
            return Some(Self::Name(written.to_owned()));
        }
        if let Some(glob) = globs.get(written) {
            return Some(Self::Glob(glob.clone()));
        }
        let glob = Arc::new(GlobBuilder::new(written).literal_separator(true).build().ok()?.compile_matcher());
        globs.insert(written.to_owned(), glob.clone());
        Some(Self::Glob(glob))
    }

    fn matches(&self, label: &str) -> bool {
        match self {
            Self::Name(name) => name == label,
            Self::Glob(glob) => glob.is_match(label),
        }
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    // The colons of an IPv6 address are within brackets.
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
}

/// Docker Hub goes by three names.
fn canonical_host(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}
