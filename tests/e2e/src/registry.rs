//! The registry that images go to and the cluster pulls from, and the tools that speak to it.

use std::path::PathBuf;
use std::process::Command;

use crate::cluster::layout::{self, Layout};
use crate::command::{finish, output};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::tools::Tools;

/// A registry, as machine and cluster both know it.
#[derive(Debug, Clone)]
pub struct Registry {
    /// `host[:port]`, with the path below which everything goes.
    base: String,
    plain_http: bool,
    hosts: Option<PathBuf>,
    tools: Tools,
}

impl Registry {
    /// The registry of a cluster of this harness.
    pub fn of(layout: &Layout, tools: &Tools) -> Self {
        Self { base: layout::REGISTRY.into(), plain_http: true, hosts: Some(layout.hosts_file()), tools: tools.clone() }
    }

    /// The one beside it that has no referrers API.
    pub fn bare_of(layout: &Layout, tools: &Tools) -> Self {
        Self { base: layout::BARE_REGISTRY.into(), ..Self::of(layout, tools) }
    }

    /// Another one; credentials are those of the person's Docker configuration.
    pub fn external(base: &str, plain_http: bool, tools: &Tools) -> Self {
        Self { base: base.trim_end_matches('/').into(), plain_http, hosts: None, tools: tools.clone() }
    }

    /// `host[:port]`.
    pub fn host(&self) -> &str {
        self.base.split('/').next().unwrap_or_default()
    }

    /// Host, and the path below which everything goes.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether it speaks HTTP without TLS.
    pub fn plain_http(&self) -> bool {
        self.plain_http
    }

    /// A command of the tools that knows the registry's name, without a change to the machine's own `/etc/hosts`.
    pub fn tool(&self, program: &str) -> Command {
        let path = self.tools.path(program);
        let Some(hosts) = &self.hosts else {
            return Command::new(path);
        };
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "--", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
            .arg(hosts)
            .arg(path);
        command
    }

    /// Pushes an image unless it is there under this tag, and returns where it is.
    pub fn push(&self, image: &Image, repository: &str, tag: &str) -> Result<Reference> {
        let reference = Reference {
            repository: format!("{}/{repository}", self.base),
            tag: tag.to_owned(),
            digest: image.digest().to_owned(),
        };
        if self.digest(&reference.tagged())?.as_deref() != Some(image.digest()) {
            output(self.crane("push").arg(image.layout()).arg(reference.tagged()))?;
            let found = self.digest(&reference.tagged())?;
            if found.as_deref() != Some(image.digest()) {
                let found = found.unwrap_or_else(|| "nothing".into());
                return Err(Error::Invalid(format!(
                    "{}: pushed {}, found {found}",
                    reference.tagged(),
                    image.digest()
                )));
            }
        }
        Ok(reference)
    }

    /// The digest that a tag names, if it names one.
    pub fn digest(&self, tagged: &str) -> Result<Option<String>> {
        let finished = finish(self.crane("digest").arg(tagged))?;
        if finished.success {
            return Ok(Some(finished.stdout.trim().to_owned()));
        }
        if finished.stderr.contains("MANIFEST_UNKNOWN")
            || finished.stderr.contains("NAME_UNKNOWN")
            || finished.stderr.contains("404")
        {
            return Ok(None);
        }
        Err(Error::Command { command: format!("crane digest {tagged}"), output: finished.stderr.trim().to_owned() })
    }

    fn crane(&self, verb: &str) -> Command {
        let mut command = self.tool("crane");
        command.arg(verb);
        if self.plain_http {
            command.arg("--insecure");
        }
        command
    }
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `host/path`.
    pub repository: String,
    /// The tag it was pushed under.
    pub tag: String,
    /// `sha256:…` of its manifest.
    pub digest: String,
}

impl Reference {
    /// `repository:tag`, as people write it.
    pub fn tagged(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// `repository@digest`.
    pub fn by_digest(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }

    /// `repository:tag@digest`, as Zastava pins it.
    pub fn pinned(&self) -> String {
        format!("{}:{}@{}", self.repository, self.tag, self.digest)
    }
}
