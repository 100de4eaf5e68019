//! The files that a bill of materials lists, by path and by content.

use std::collections::HashMap;

use zastava_crds::digest::Sha256Digest;

/// Files of one image at most.
const MAX_FILES: usize = 500_000;

/// What a bill of materials says about a file that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Exactly this content is listed.
    Known {
        /// purl or name of the component that owns it.
        component: Option<String>,
        /// Where it is listed, if elsewhere.
        listed_at: Option<String>,
    },
    /// The path is listed with other content.
    Modified {
        /// purl or name of the component that owns it.
        component: Option<String>,
        /// The content it should have.
        expected: Sha256Digest,
    },
    /// Neither path nor content is listed.
    Unknown,
    /// The bill of materials lists no files with hashes: it can't speak about any.
    NoFiles,
}

#[derive(Debug, Default)]
pub(super) struct Files {
    by_path: HashMap<String, Vec<Listed>>,
    /// First path a content is listed at, and its owner.
    by_content: HashMap<Sha256Digest, (String, Option<u32>)>,
    components: Vec<String>,
    count: usize,
}

#[derive(Debug)]
struct Listed {
    sha256: Sha256Digest,
    component: Option<u32>,
}

impl Files {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Remembers a component; its number stands for it.
    pub(super) fn component(&mut self, name: String) -> Option<u32> {
        let number = u32::try_from(self.components.len()).ok()?;
        self.components.push(name);
        Some(number)
    }

    pub(super) fn list(&mut self, path: &str, sha256: Sha256Digest, component: Option<u32>) -> Result<(), String> {
        if self.count == MAX_FILES {
            return Err(format!("it lists more than {MAX_FILES} files"));
        }
        let path = normal(path);
        self.by_content.entry(sha256.clone()).or_insert_with(|| (path.clone(), component));
        self.by_path.entry(path).or_default().push(Listed { sha256, component });
        self.count += 1;
        Ok(())
    }

    pub(super) fn judge(&self, path: &str, sha256: &Sha256Digest) -> Judgement {
        if self.count == 0 {
            return Judgement::NoFiles;
        }
        let path = normal(path);
        let at_path = self.by_path.get(&path).map_or(&[][..], Vec::as_slice);
        if let Some(listed) = at_path.iter().find(|listed| listed.sha256 == *sha256) {
            return Judgement::Known { component: self.name(listed.component), listed_at: None };
        }
        // A known program copied over another one is still not what the supplier put there.
        if let Some(listed) = at_path.first() {
            return Judgement::Modified { component: self.name(listed.component), expected: listed.sha256.clone() };
        }
        match self.by_content.get(sha256) {
            Some((elsewhere, component)) => {
                Judgement::Known { component: self.name(*component), listed_at: Some(format!("/{elsewhere}")) }
            }
            None => Judgement::Unknown,
        }
    }

    fn name(&self, component: Option<u32>) -> Option<String> {
        component.and_then(|number| self.components.get(number as usize)).cloned()
    }
}

/// Without leading `/` and `./`, and without empty steps: generators disagree on them.
fn normal(path: &str) -> String {
    let steps: Vec<_> = path.split('/').filter(|step| !matches!(*step, "" | ".")).collect();
    steps.join("/")
}

/// A SHA-256 written as hex, in either case.
pub(super) fn sha256(hex: &str) -> Option<Sha256Digest> {
    format!("sha256:{}", hex.to_ascii_lowercase()).parse().ok()
}
