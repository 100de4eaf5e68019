//! Opening files of containers without being led astray, and hashing them within bounds.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use sha2::{Digest as _, Sha256};
use zastava_crds::digest::Sha256Digest;

/// A larger file is not hashed.
pub const MAX_BYTES: u64 = 256 << 20;
/// Hashing one file takes no longer.
pub const MAX_TIME: Duration = Duration::from_secs(2);

/// Opens a folder to resolve paths in.
pub fn folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty())?)
}

/// Opens a regular file below `root`, where absolute links and `..` end at `root` too. Waits for nobody: a FIFO or a
/// device is refused.
pub fn file(root: impl AsFd, path: &str, links: bool) -> io::Result<File> {
    let relative = path.trim_start_matches('/');
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if !links {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    // Told apart before it is opened for reading: opening a device may do something.
    let found = openat2(&root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    regular(&File::from(found))?;
    let file = File::from(openat2(&root, relative, flags, Mode::empty(), resolve)?);
    regular(&file)?;
    Ok(file)
}

/// Opens what a magic link of /proc points to.
pub fn magic(path: &Path) -> io::Result<File> {
    let found = File::from(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    regular(&found)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::empty())?);
    regular(&file)?;
    Ok(file)
}

fn regular(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) }
}

/// Hash of a whole file, or why there is none.
pub fn hash(file: &mut File) -> Result<Sha256Digest, String> {
    let before = file.metadata().map_err(|error| error.to_string())?;
    if before.size() > MAX_BYTES {
        return Err(format!("larger than {} MiB", MAX_BYTES >> 20));
    }
    let started = Instant::now();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 128 << 10];
    let mut total = 0_u64;
    loop {
        let read = file.read(&mut buffer).map_err(|error| error.to_string())?;
        if read == 0 {
            break;
        }
        total += u64::try_from(read).unwrap_or(0);
        hasher.update(&buffer[..read]);
        if total > MAX_BYTES {
            return Err("it grew while it was read".to_owned());
        }
        if started.elapsed() > MAX_TIME {
            return Err("reading it took too long".to_owned());
        }
    }
    let after = file.metadata().map_err(|error| error.to_string())?;
    if (before.mtime(), before.mtime_nsec(), before.size()) != (after.mtime(), after.mtime_nsec(), after.size()) {
        return Err("it changed while it was read".to_owned());
    }
    Ok(Sha256Digest::from_hash(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out_of_a_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), b"inside").unwrap();
        symlink("/etc/passwd", root.path().join("absolute")).unwrap();
        let fd = folder(root.path()).unwrap();
        for path in ["/absolute", "/../../../etc/passwd", "etc/../etc/passwd"] {
            let mut opened = file(&fd, path, true).unwrap();
            assert_eq!(hash(&mut opened).unwrap(), Sha256Digest::of(b"inside"), "{path}");
        }
        assert!(file(&fd, "/absolute", false).is_err(), "no link is followed where none is expected");
        assert!(file(&fd, "/etc", true).is_err());
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let root = tempfile::tempdir().unwrap();
        let fd = folder(root.path()).unwrap();
        rustix::fs::mknodat(&fd, "pipe", rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(file(&fd, "/pipe", true).is_err());
    }
}
