//! What the next agent is to know, in a file: a line with the CRC32C of what follows, then JSON. The file is replaced
//! whole or not at all.

use std::{
    fmt::Debug,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    marker::PhantomData,
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

/// A larger file was not written here.
const MAX_BYTES: u64 = 64 << 20;

/// What can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not what was written.
    #[error("{} is damaged: {message}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How it shows.
        message: String,
    },
}

impl KeptError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Io { .. } => "kept_io",
            Self::Damaged { .. } => "kept_damaged",
        }
    }
}

/// A file that holds one value.
#[derive(Debug)]
pub struct KeptFile<T> {
    path: PathBuf,
    holds: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> KeptFile<T> {
    /// The file of this name.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), holds: PhantomData }
    }

    /// What was kept last, if anything was.
    ///
    /// # Errors
    /// [`KeptError`]; what it held has to come from elsewhere then.
    pub fn load(&self) -> Result<Option<T>, KeptError> {
        let mut text = String::new();
        let read = File::open(&self.path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
        let damaged = |message: String| KeptError::Damaged { path: self.path.clone(), message };
        match read {
            Ok(read) if read as u64 > MAX_BYTES => return Err(damaged(format!("larger than {} MiB", MAX_BYTES >> 20))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io("read", source)),
        }
        let (sum, json) = text.split_once('\n').ok_or_else(|| damaged("no checksum".to_owned()))?;
        if sum != checksum(json.as_bytes()) {
            return Err(damaged("the checksum does not match".to_owned()));
        }
        serde_json::from_str(json).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Keeps `value` through a loss of power.
    ///
    /// # Errors
    /// [`KeptError`]; what was kept before is still there.
    pub fn save(&self, value: &T) -> Result<(), KeptError> {
        self.write(value, true)
    }

    /// Keeps `value` through a `kill -9`, and until the next boot: cheaper than [`Self::save`].
    ///
    /// # Errors
    /// [`KeptError`]; what was kept before is still there.
    pub fn replace(&self, value: &T) -> Result<(), KeptError> {
        self.write(value, false)
    }

    fn write(&self, value: &T, through_power_loss: bool) -> Result<(), KeptError> {
        let json = serde_json::to_vec(value).map_err(|error| self.io("encode", error.into()))?;
        let fresh = self.path.with_extension("new");
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(format!("{}\n", checksum(&json)).as_bytes())?;
            file.write_all(&json)?;
            if through_power_loss {
                file.sync_all()?;
            }
            fs::rename(&fresh, &self.path)?;
            let folder = self.path.parent().filter(|_| through_power_loss);
            folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(|error| self.io("write", error))
    }

    fn io(&self, action: &'static str, source: io::Error) -> KeptError {
        KeptError::Io { action, path: self.path.clone(), source }
    }
}

fn checksum(json: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(json))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use zastava_crds::wire::sync::RuleSet;

    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_what_is_damaged_does_not() {
        let folder = TempDir::new().unwrap();
        let file = KeptFile::new(folder.path().join("rules.json"));
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
    fn a_write_that_is_cut_short_leaves_what_was_before_it() {
        let folder = TempDir::new().unwrap();
        let file = KeptFile::new(folder.path().join("rules.json"));
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
