//! Where the probe's parts stay while no agent runs.

use std::path::{Path, PathBuf};

/// Every map, by the name it has in the program.
pub const MAPS: [&str; 12] = [
    "ring_routine",
    "ring_urgent",
    "config",
    "counters",
    "containers",
    "rules",
    "allowed_tops",
    "verified",
    "tally",
    "settled",
    "cgroups",
    "scratches",
];

/// The versioned folder in a bpffs. Its name ends in the version of record.h's layouts, so that an agent never
/// adopts a probe whose records it would misread.
#[derive(Clone, Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// Pins in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A map's pin.
    pub fn map(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The link that keeps the program attached.
    pub fn link(&self) -> PathBuf {
        self.0.join("link")
    }

    /// The program, for its statistics.
    pub fn program(&self) -> PathBuf {
        self.0.join("program")
    }

    /// Where a pin is made that is about to replace this one.
    pub fn next(path: &Path) -> PathBuf {
        // A bpffs takes no name with a dot.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push("_next");
        path.with_file_name(name)
    }

    /// Takes everything away: the program detaches with its link. Missing pins are no error.
    pub fn remove(&self) -> std::io::Result<()> {
        let (link, program) = (self.link(), self.program());
        let attached = [Self::next(&link), link, Self::next(&program), program];
        for path in attached.into_iter().chain(MAPS.iter().map(|name| self.map(name))) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match std::fs::remove_dir(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
