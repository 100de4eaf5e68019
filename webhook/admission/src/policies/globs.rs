//! Globs on the canonical `host/repository`, anchored at both ends.

use globset::{GlobSet, GlobSetBuilder};
use zastava_verify::image;

/// A compiled list of globs.
#[derive(Clone, Debug)]
pub struct Globs(GlobSet);

impl Globs {
    /// Compiles; `*` stays within one path segment, `**` does not.
    pub fn new<'a>(globs: impl IntoIterator<Item = &'a str>) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(image::glob(glob)?);
        }
        Ok(Self(set.build()?))
    }

    /// Whether one of them matches all of `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}
