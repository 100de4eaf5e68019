//! The cluster's programs, built from pinned Go modules into the cache.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// The folder of built programs.
#[derive(Debug, Clone)]
pub struct Tools {
    bin: PathBuf,
}

impl Tools {
    /// Builds what is missing (minutes on a cold cache, progress on standard error) and returns the folder.
    pub fn build() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/build.sh");
        let failed = |output: String| Error::Command { command: script.display().to_string(), output };
        let built = Command::new("bash")
            .arg(&script)
            .env("ZASTAVA_CACHE", cache()?)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        let bin = PathBuf::from(String::from_utf8_lossy(&built.stdout).trim());
        if !built.status.success() || !bin.is_absolute() {
            return Err(failed("the programs were not built; the reason is above".into()));
        }
        Ok(Self { bin })
    }

    /// The folder.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The path of one program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// `PATH` with the folder in front.
    pub fn search_path(&self) -> OsString {
        let mut path = OsString::from(self.bin.as_os_str());
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        path
    }
}

/// The cache: `ZASTAVA_CACHE`, or `zastava` in the person's cache folder.
pub fn cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("ZASTAVA_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("zastava")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/zastava")))
        .ok_or_else(|| Error::Invalid("neither ZASTAVA_CACHE nor HOME is set: set ZASTAVA_CACHE to a folder".into()))?;
    if folder.is_absolute() {
        Ok(folder)
    } else {
        Err(Error::Invalid(format!("ZASTAVA_CACHE={}: use an absolute path", folder.display())))
    }
}
