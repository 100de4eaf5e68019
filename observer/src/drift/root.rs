//! A container's root as the kernel's mount table tells it.

use std::{
    fs::{self, File},
    io,
    os::unix::{ffi::OsStringExt as _, fs::FileTypeExt as _},
    path::{Path, PathBuf},
};

use super::read;

/// The root of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// `major << 20 | minor` of its superblock.
    pub device: u32,
    /// Its layers, if it is an overlay.
    pub overlay: Option<Overlay>,
    /// The mount namespace it was read in.
    pub mntns: u32,
}

/// Layers of an overlay, by the paths that the runtime mounted them with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The container's own.
    pub upper: PathBuf,
    /// The image's, topmost first.
    pub lower: Vec<PathBuf>,
}

/// One line of a mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLine {
    /// Id of the mount.
    pub id: u64,
    /// Its superblock.
    pub device: u32,
    /// What of its file system is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    fs_type: String,
    options: Vec<u8>,
}

/// A process's mount table.
pub fn mounts(proc: &Path, pid: u32) -> io::Result<Vec<MountLine>> {
    let table = fs::read(proc.join(pid.to_string()).join("mountinfo"))?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<MountLine> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (major, minor) = std::str::from_utf8(fields.nth(1)?).ok()?.split_once(':')?;
    let device = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?;
    let root = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let point = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    let options = unescape(fields.nth(1)?);
    Some(MountLine { id, device, root, point, fs_type, options })
}

/// `\040` and its like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal =
            after.first_chunk::<3>().filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = octal {
            plain.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    plain
}

impl Overlay {
    fn parse(options: &[u8]) -> Option<Self> {
        let mut upper = None;
        let mut lower = Vec::new();
        for option in split(options, b',') {
            if let Some(value) = option.strip_prefix(b"upperdir=") {
                upper = Some(path(value));
            } else if let Some(value) = option.strip_prefix(b"lowerdir+=") {
                lower.push(path(value));
            } else if let Some(value) = option.strip_prefix(b"lowerdir=") {
                // An empty part between two colons announces data-only layers, which hold no names.
                lower.extend(split(value, b':').into_iter().take_while(|part| !part.is_empty()).map(path));
            }
        }
        let upper = upper?;
        // containerd shortens long lists to paths relative to its folder of snapshots.
        if let Some(base) = upper.parent().and_then(Path::parent) {
            for layer in &mut lower {
                if layer.is_relative() {
                    *layer = base.join(&*layer);
                }
            }
        }
        Some(Self { upper, lower })
    }

    /// A file of the container's own layer, seen from the mount namespace of `host`.
    pub fn open_upper(&self, host: &Path, inside: &str) -> io::Result<File> {
        read::file(read::folder(&within(host, &self.upper))?, inside, false)
    }

    /// The image's file of this name, if the image has one.
    pub fn open_lower(&self, host: &Path, inside: &str) -> io::Result<Option<File>> {
        for layer in &self.lower {
            let folder = read::folder(&within(host, layer))?;
            match read::file(&folder, inside, false) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    // A character device here is a whiteout: a layer removed what those below it hold.
                    let whiteout = fs::symlink_metadata(within(host, layer).join(inside.trim_start_matches('/')))
                        .is_ok_and(|meta| meta.file_type().is_char_device());
                    if whiteout {
                        return Ok(None);
                    }
                    return Err(error);
                }
            }
        }
        Ok(None)
    }
}

/// A path of another root.
fn within(host: &Path, path: &Path) -> PathBuf {
    host.join(path.strip_prefix("/").unwrap_or(path))
}

/// Splits at a separator that has no backslash before it.
fn split(bytes: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut escaped = false;
    bytes
        .split(move |byte| {
            let splits = *byte == separator && !escaped;
            escaped = *byte == b'\\' && !escaped;
            splits
        })
        .collect()
}

/// Without the backslashes that kept separators together.
fn path(bytes: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut escaped = false;
    for byte in bytes {
        escaped = *byte == b'\\' && !escaped;
        if !escaped {
            plain.push(*byte);
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

impl Root {
    /// The root of a process's mount namespace.
    pub fn of(proc: &Path, pid: u32) -> io::Result<Self> {
        let mntns =
            crate::probe::load::namespace(&proc.join(pid.to_string()).join("ns/mnt")).map_err(io::Error::other)?;
        let mounts = mounts(proc, pid)?;
        // The last one mounted is the one that is seen.
        let root =
            mounts.iter().rfind(|mount| mount.point == "/").ok_or_else(|| io::Error::other("no root is mounted"))?;
        let overlay = (root.fs_type == "overlay").then(|| Overlay::parse(&root.options)).flatten();
        Ok(Self { device: root.device, overlay, mntns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_in_every_form() {
        let line = b"812 700 0:52 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=45/fs:44/fs,upperdir=/var/lib/containerd/s/snapshots/46/fs,workdir=/w";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.device, mount.point.as_str()), (812, 52, "/"));
        let overlay = Overlay::parse(&mount.options).unwrap();
        assert_eq!(overlay.lower[0], Path::new("/var/lib/containerd/s/snapshots/45/fs"));
        let overlay = Overlay::parse(b"rw,lowerdir+=/a b,lowerdir+=/c,upperdir=/u").unwrap();
        assert_eq!(overlay.lower, [Path::new("/a b"), Path::new("/c")]);
        let overlay = Overlay::parse(br"rw,lowerdir=/a\:b:/c::/data,upperdir=/u\,v").unwrap();
        assert_eq!((overlay.lower, overlay.upper), (vec!["/a:b".into(), "/c".into()], "/u,v".into()));
        assert_eq!(Overlay::parse(b"ro,lowerdir=/a:/b"), None);
    }

    #[test]
    fn names_with_blanks_are_whole() {
        let mount = parse(br"1 2 8:1 / /my\040dir rw - ext4 /dev/sda1 rw").unwrap();
        assert_eq!((mount.point.as_str(), mount.device), ("/my dir", 8 << 20 | 1));
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_whiteout_hides_lower_layers() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.join("bin")).unwrap();
            path
        };
        let (upper, top, base) = (layer("upper"), layer("top"), layer("base"));
        fs::write(base.join("bin/tool"), b"x").unwrap();
        let overlay = Overlay { upper, lower: vec![top.clone(), base] };
        assert!(overlay.open_lower(Path::new("/"), "/bin/tool").unwrap().is_some());
        assert!(overlay.open_lower(Path::new("/"), "/bin/other").unwrap().is_none());
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            top.join("bin/tool"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        );
        match made {
            Ok(()) => assert!(overlay.open_lower(Path::new("/"), "/bin/tool").unwrap().is_none()),
            Err(error) => println!("whiteouts are not tried: {error}"),
        }
    }
}
