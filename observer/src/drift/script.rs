//! The program behind an interpreter: its name is all that the kernel tells, so it is resolved late.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::{
    read,
    root::{MountLine, mounts},
};
use crate::probe::record::{ExecRecord, flags};

/// A file that was found by its name.
#[derive(Debug)]
pub struct Found {
    /// Open for reading.
    pub file: File,
    /// In the container's mount namespace; `None` for a memory file or one that was deleted.
    pub place: Option<Place>,
    /// What it is called.
    pub name: String,
}

/// Where a file lies.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path through every mount.
    pub path: String,
    /// Its path in its file system.
    pub inside: String,
    /// Superblock.
    pub device: u32,
}

/// The name that matters: the script's, or that of the program that the dynamic loader was told to run.
pub fn name(record: &ExecRecord) -> Option<&str> {
    if record.has(flags::SCRIPT) {
        return Some(&record.filename);
    }
    if !record.has(flags::LOADER) {
        return None;
    }
    let mut args = record.args.iter().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--library-path"
            | "--preload"
            | "--argv0"
            | "--inhibit-rpath"
            | "--glibc-hwcaps-prepend"
            | "--glibc-hwcaps-mask"
            | "--audit" => {
                args.next();
            }
            "--" => return args.next().map(String::as_str),
            option if option.starts_with("--") => {}
            program => return Some(program),
        }
    }
    None
}

/// Finds a file by the name that a process gave to exec. `process` is the folder of /proc of the process or, when that
/// one is gone, of its parent or of the container's first one: with that only absolute names can be found.
pub fn find(process: &Path, pid: u32, name: &str, is_the_process: bool) -> io::Result<Found> {
    whereabouts(open(process, name, is_the_process)?, process, pid)
}

/// Where an open file lies, in the mounts of this process.
pub fn whereabouts(file: File, process: &Path, pid: u32) -> io::Result<Found> {
    let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let real = real.to_string_lossy().into_owned();
    let gone = rustix::fs::fstat(&file)?.st_nlink == 0;
    if gone || real.starts_with("/memfd:") || real.ends_with(" (deleted)") {
        return Ok(Found { file, place: None, name: real.trim_end_matches(" (deleted)").to_owned() });
    }
    let mount = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id;
    let proc = process.parent().unwrap_or(Path::new("/proc"));
    let table = mounts(proc, pid)?;
    let mount = table.iter().find(|line| line.id == mount).ok_or_else(|| io::Error::other("its mount is gone"))?;
    let place = place(mount, real.clone());
    Ok(Found { file, place: Some(place), name: real })
}

fn place(mount: &MountLine, path: String) -> Place {
    let below = path.strip_prefix(mount.point.trim_end_matches('/')).unwrap_or(&path);
    let inside = format!("{}{below}", mount.root.trim_end_matches('/'));
    Place { inside, device: mount.device, path }
}

fn open(process: &Path, name: &str, is_the_process: bool) -> io::Result<File> {
    // fexecve of a script: the interpreter holds it open under this number.
    if let Some(number) = name.strip_prefix("/dev/fd/").or_else(|| name.strip_prefix("/proc/self/fd/")) {
        let number = number.split('/').next().unwrap_or_default();
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if is_the_process && is_number {
            return read::magic(&process.join("fd").join(number));
        }
        return Err(io::ErrorKind::NotFound.into());
    }
    let root = process.join("root");
    let path = if name.starts_with('/') {
        name.to_owned()
    } else if is_the_process {
        // Both links are told from the root of the mount namespace; a name is looked up below the process's own.
        let cwd = fs::read_link(process.join("cwd"))?;
        let above = fs::read_link(&root)?;
        let inside = cwd.strip_prefix(&above).map_or_else(|_| cwd.clone(), PathBuf::from);
        inside.join(name).to_string_lossy().into_owned()
    } else {
        return Err(io::ErrorKind::NotFound.into());
    };
    read::file(read::folder(&root)?, &path, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::record::tests::encode;

    fn loader(args: &[u8]) -> ExecRecord {
        let mut record = ExecRecord::decode(&encode(b"/lib/ld.so\0", b"", b"ld.so\0lib\0", args, 1)).unwrap();
        record.flags = flags::LOADER;
        record
    }

    #[test]
    fn the_loader_is_told_a_program_behind_its_options() {
        let record = loader(b"ld.so\0--library-path\0/x\0--inhibit-cache\0./payload\0-v\0");
        assert_eq!(name(&record), Some("./payload"));
        assert_eq!(name(&loader(b"ld.so\0--list\0")), None);
        assert_eq!(name(&loader(b"ld.so\0")), None);
    }

    #[test]
    fn a_name_is_found_as_the_process_would_find_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tool.sh"), b"#!/bin/sh\n").unwrap();
        let name = dir.path().join("x/../tool.sh");
        let process = Path::new("/proc/self");
        let pid = std::process::id();
        assert!(find(process, pid, name.to_str().unwrap(), true).is_err(), "x does not exist");
        let found = find(process, pid, dir.path().join("tool.sh").to_str().unwrap(), true).unwrap();
        let place = found.place.unwrap();
        assert!(place.path.ends_with("/tool.sh") && place.inside.ends_with("/tool.sh"));
        assert!(find(process, pid, "tool.sh", false).is_err(), "a relative name needs the process");
    }
}
