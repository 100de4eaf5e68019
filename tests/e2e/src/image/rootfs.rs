//! A root file system in the making: a temporary folder that becomes a layer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command::run;
use crate::error::{At as _, Error, Result};

/// Debian's statically linked busybox (package busybox-static).
pub const BUSYBOX: &str = "/bin/busybox";

/// A root file system; the folder goes with the value.
#[derive(Debug)]
pub struct Rootfs {
    folder: TempDir,
}

impl Rootfs {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("zastava-rootfs-").tempdir().at(std::env::temp_dir())?;
        let path = folder.path().join("root");
        fs::create_dir(&path).at(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at(&path)?;
        Ok(Self { folder })
    }

    /// One with busybox, every applet a hard link to it, `/tmp`, `/etc/passwd` and the usual folders.
    pub fn busybox() -> Result<Self> {
        let rootfs = Self::new()?;
        rootfs.copy(Path::new(BUSYBOX), "/bin/busybox", 0o755)?;
        for applet in run(BUSYBOX, ["--list-full"])?.lines() {
            let path = rootfs.inside(applet)?;
            if applet == "bin/busybox" || path.exists() {
                continue;
            }
            fs::hard_link(rootfs.inside("bin/busybox")?, &path).at(&path)?;
        }
        rootfs.write(
            "/etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            0o644,
        )?;
        rootfs.write("/etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)?;
        for (folder, mode) in
            [("tmp", 0o1777), ("root", 0o755), ("srv", 0o755), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755)]
        {
            let path = rootfs.folder.path().join("root").join(folder);
            fs::create_dir_all(&path).at(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at(&path)?;
        }
        Ok(rootfs)
    }

    /// The folder that becomes `/`.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Copies a file of the machine to the absolute path `to`.
    pub fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let path = self.inside(to)?;
        fs::copy(from, &path).at(from)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at(&path)
    }

    /// Writes a file at the absolute path `to`.
    pub fn write(&self, to: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.inside(to)?;
        fs::write(&path, content).at(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at(&path)
    }

    /// Compiles a C program, linked statically, to the absolute path `to`.
    pub fn compile(&self, source: &Path, to: &str) -> Result<()> {
        let program = self.folder.path().join("program");
        let (from, into) = (source.display().to_string(), program.display().to_string());
        run("gcc", ["-static", "-Os", "-s", "-Wall", "-Werror", "-o", &into, &from])?;
        self.copy(&program, to, 0o755)
    }

    /// Writes the layer: the same files give the same bytes, hard links stay hard links.
    pub fn layer(&self, tar: &Path) -> Result<()> {
        let root = self.path();
        run(
            "tar",
            [
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--format=gnu",
                "-C",
                &root.display().to_string(),
                "-cf",
                &tar.display().to_string(),
                ".",
            ],
        )?;
        Ok(())
    }

    fn inside(&self, path: &str) -> Result<PathBuf> {
        let relative = Path::new(path.trim_start_matches('/'));
        if relative.components().any(|part| matches!(part, std::path::Component::ParentDir)) {
            return Err(Error::Invalid(format!("image path {path}: leave out '..'")));
        }
        let full = self.path().join(relative);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent).at(parent)?;
        }
        Ok(full)
    }
}
