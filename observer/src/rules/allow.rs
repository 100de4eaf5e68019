//! Paths and mount destinations whose programs are allowed.

use std::collections::BTreeSet;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// Globs on paths: `*` stays within one component. A pattern that is none is told and left out.
pub fn globs<'a>(patterns: impl IntoIterator<Item = &'a String>, policy: &str) -> GlobSet {
    numbered(patterns, policy).0
}

/// The same, and the pattern that each number of a match stands for: what is left out has none.
pub fn numbered<'a>(patterns: impl IntoIterator<Item = &'a String>, policy: &str) -> (GlobSet, Vec<String>) {
    let mut set = GlobSetBuilder::new();
    let mut usable = Vec::new();
    for pattern in patterns {
        match GlobBuilder::new(pattern).literal_separator(true).backslash_escape(false).build() {
            Ok(glob) => {
                set.add(glob);
                usable.push(pattern.clone());
            }
            Err(error) => tracing::error!(%error, policy, "a glob of the policy can't be used"),
        }
    }
    let set = set.build().unwrap_or_else(|error| {
        tracing::error!(%error, policy, "the globs of the policy can't be used");
        GlobSet::empty()
    });
    (set, usable)
}

/// What a policy's `drift.allow` allows.
#[derive(Clone, Debug)]
pub struct Allow {
    plain: Vec<String>,
    globs: GlobSet,
    /// First components of all that is allowed.
    pub tops: BTreeSet<String>,
    /// Some first component is a pattern: what is allowed may be anywhere.
    pub anywhere: bool,
}

const WILD: [char; 5] = ['*', '?', '[', '{', '\\'];

impl Allow {
    /// Of these patterns.
    pub fn new(patterns: &[String], policy: &str) -> Self {
        let (wild, plain): (Vec<&String>, Vec<&String>) = patterns.iter().partition(|pattern| pattern.contains(WILD));
        let mut tops = BTreeSet::new();
        let mut anywhere = false;
        for pattern in patterns {
            let top = pattern.trim_start_matches('/').split('/').next().unwrap_or_default();
            if top.is_empty() || top.contains(WILD) {
                anywhere = true;
            } else {
                tops.insert(top.to_owned());
            }
        }
        let plain = plain.into_iter().map(|path| path.trim_end_matches('/').to_owned()).collect();
        Self { plain, globs: globs(wild, policy), tops, anywhere }
    }

    /// Nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.globs.is_empty()
    }

    /// Whether a program is allowed: itself, or everything below a folder or mount destination of its path.
    pub fn allows(&self, path: &str) -> bool {
        let below = |plain: &String| {
            path.strip_prefix(plain.as_str()).is_some_and(|rest| rest.starts_with('/') || rest.is_empty())
        };
        if self.plain.iter().any(below) {
            return true;
        }
        if self.globs.is_empty() {
            return false;
        }
        // A glob may name the program, or a folder above it.
        std::iter::successors(Some(path), |path| path.rfind('/').filter(|at| *at > 0).map(|at| &path[..at]))
            .any(|path| self.globs.is_match_candidate(&Candidate::new(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(patterns: &[&str]) -> Allow {
        Allow::new(&patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), "test")
    }

    #[test]
    fn a_folder_allows_what_is_below_it_and_not_its_neighbours() {
        let allow = allow(&["/data/plugins/", "/opt/tool"]);
        assert!(allow.allows("/data/plugins/a/b") && allow.allows("/opt/tool"));
        assert!(!allow.allows("/data/pluginsx") && !allow.allows("/data") && !allow.allows("/opt/tool2"));
        assert_eq!(allow.tops.iter().map(String::as_str).collect::<Vec<_>>(), ["data", "opt"]);
        assert!(!allow.anywhere);
    }

    #[test]
    fn globs_name_programs_or_folders_above_them() {
        let allow = allow(&["/var/lib/*/bin", "/srv/*.run"]);
        assert!(allow.allows("/var/lib/x/bin/tool") && allow.allows("/srv/a.run"));
        assert!(!allow.allows("/var/lib/x/y/bin/tool") && !allow.allows("/srv/b/a.sh"));
    }

    #[test]
    fn a_pattern_at_the_top_may_be_anywhere() {
        assert!(allow(&["/*/bin"]).anywhere && allow(&["/"]).anywhere && allow(&["/**"]).anywhere);
        assert!(allow(&["/"]).allows("/x/y"));
        assert!(allow(&[]).is_empty() && !allow(&[]).allows("/x"));
    }
}
