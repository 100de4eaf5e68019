//! The last rules on the disk: a line with the CRC32C of what follows, then JSON. The file is replaced whole or not at
//! all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use zastava_crds::wire::sync::RuleSet;

/// Name of the file in the state directory.
const FILE: &str = "rules.json";

/// Rules that can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file system refused.
    #[error("rules: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not what was written.
    #[error("rules: {} is damaged: {message}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How it shows.
        message: String,
    },
}

impl RulesError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Io { .. } => "rules_io",
            Self::Damaged { .. } => "rules_damaged",
        }
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct RulesFile {
    path: PathBuf,
}

impl RulesFile {
    /// The file in this state directory.
    pub fn new(state: &Path) -> Self {
        Self { path: state.join(FILE) }
    }

    /// The rules that were kept last, if any were.
    ///
    /// # Errors
    /// [`RulesError`]; the intake will send them again.
    pub fn load(&self) -> Result<Option<RuleSet>, RulesError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io("read", source)),
        };
        let damaged = |message: String| RulesError::Damaged { path: self.path.clone(), message };
        let (sum, json) = text.split_once('\n').ok_or_else(|| damaged("no checksum".to_owned()))?;
        if sum != checksum(json.as_bytes()) {
            return Err(damaged("the checksum does not match".to_owned()));
        }
        serde_json::from_str(json).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Keeps `rules` through a loss of power.
    ///
    /// # Errors
    /// [`RulesError`]; the rules kept before are still there.
    pub fn save(&self, rules: &RuleSet) -> Result<(), RulesError> {
        let json = serde_json::to_vec(rules).map_err(|error| self.io("encode", error.into()))?;
        let fresh = self.path.with_extension("new");
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(format!("{}\n", checksum(&json)).as_bytes())?;
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(|error| self.io("write", error))
    }

    fn io(&self, action: &'static str, source: io::Error) -> RulesError {
        RulesError::Io { action, path: self.path.clone(), source }
    }
}

fn checksum(json: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(json))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_last_rules_come_back_and_damaged_ones_do_not() {
        let folder = TempDir::new().unwrap();
        let file = RulesFile::new(folder.path());
        assert!(file.load().unwrap().is_none());
        for hash in ["sha256:1", "sha256:2"] {
            let rules = RuleSet { hash: hash.to_owned(), ..RuleSet::default() };
            file.save(&rules).unwrap();
            assert_eq!(file.load().unwrap(), Some(rules));
        }
        let mut bytes = fs::read(&file.path).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            fs::write(&file.path, &bytes).unwrap();
            assert!(file.load().is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn a_write_that_is_cut_short_leaves_the_rules_before_it() {
        let folder = TempDir::new().unwrap();
        let file = RulesFile::new(folder.path());
        let rules = RuleSet { hash: "sha256:1".to_owned(), ..RuleSet::default() };
        file.save(&rules).unwrap();
        fs::write(file.path.with_extension("new"), "half").unwrap();
        assert_eq!(file.load().unwrap(), Some(rules));
        fs::remove_file(file.path.with_extension("new")).unwrap();
        fs::create_dir(file.path.with_extension("new")).unwrap();
        assert!(file.save(&RuleSet::default()).is_err());
        assert_eq!(file.load().unwrap().unwrap().hash, "sha256:1");
    }
}
