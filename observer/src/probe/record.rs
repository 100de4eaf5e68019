//! The kernel's record of one exec, decoded: mirrors `struct exec_record` of bpf/record.h.

use zastava_crds::wire::event::DriftClass;

/// Bytes before the variable part.
pub const HEADER: usize = 200;
/// Arguments kept at most.
pub const MAX_ARGS: usize = 32;

/// A record that is not one: shorter than it says, or a length that points outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the probe is malformed at {0}")]
pub struct Malformed(&'static str);

impl Malformed {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        "malformed"
    }
}

/// Bits of [`ExecRecord::flags`].
pub mod flags {
    /// The kernel ran an interpreter in the file's place.
    pub const SCRIPT: u32 = 1 << 0;
    /// The dynamic loader was run by its name.
    pub const LOADER: u32 = 1 << 1;
    /// Nothing was known of the container.
    pub const NO_RULES: u32 = 1 << 2;
    /// SIGKILL was sent before the first instruction.
    pub const KILLED: u32 = 1 << 3;
    /// An allowed path may match: the agent decides.
    pub const KILL_HELD: u32 = 1 << 4;
    /// Not the container's own mount namespace: its paths prove nothing.
    pub const OTHER_MNTNS: u32 = 1 << 5;
    /// The path is not whole.
    pub const PATH_CUT: u32 = 1 << 6;
    /// The arguments are not all there.
    pub const ARGS_CUT: u32 = 1 << 7;
    /// The file had no name any more.
    pub const UNLINKED: u32 = 1 << 8;
    /// The agent's own child.
    pub const SELF_TEST: u32 = 1 << 10;
}

/// What the kernel thinks of an executed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelClass {
    /// Content of the container's image.
    Image,
    /// Not that, or not known to be.
    Drift(DriftClass),
}

/// One exec as the kernel saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRecord {
    /// See [`flags`].
    pub flags: u32,
    /// Per CPU, from 0 at attach.
    pub sequence: u64,
    /// CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// When the process started, CLOCK_BOOTTIME: tells it from a later one with its pid.
    pub start_boottime_ns: u64,
    /// Where it ran.
    pub cpu: u32,
    /// In the agent's pid namespace.
    pub pid: u32,
    /// There too.
    pub ppid: u32,
    /// In the initial user namespace.
    pub uid: u32,
    /// What the kernel thinks of the file.
    pub class: KernelClass,
    /// `major << 20 | minor` of the file's superblock.
    pub device: u32,
    /// That of the container's root, 0 when it is not armed.
    pub root_device: u32,
    /// Links to the file.
    pub links: u32,
    /// Its number.
    pub inode: u64,
    /// That of the upper layer's file, 0 without one.
    pub upper_inode: u64,
    /// Bytes.
    pub size: u64,
    /// Change time.
    pub ctime_ns: i64,
    /// Modification time.
    pub mtime_ns: i64,
    /// Outermost container id of the cgroup.
    pub container: String,
    /// The comm of the parent.
    pub parent: String,
    /// The name given to exec(2).
    pub filename: String,
    /// What the kernel ran in its place.
    pub interpreter: Option<String>,
    /// Path of the file in its mount namespace.
    pub path: String,
    /// Where the file's mount is mounted.
    pub mount: String,
    /// At most [`MAX_ARGS`].
    pub args: Vec<String>,
    /// There were more.
    pub args_cut: bool,
}

impl ExecRecord {
    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Reads a record from the ring's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Malformed("header"))?;
        let length = u32_at(header, 0) as usize;
        if length > bytes.len() || length < HEADER {
            return Err(Malformed("length"));
        }
        let mut rest = bytes.get(HEADER..length).ok_or(Malformed("length"))?;
        let mut take = |at: usize, name: &'static str| -> Result<&[u8], Malformed> {
            let (part, after) = rest.split_at_checked(usize::from(u16_at(header, at))).ok_or(Malformed(name))?;
            rest = after;
            Ok(part)
        };
        let filename = text(take(184, "filename")?);
        let interpreter = take(186, "interpreter")?;
        let components = take(188, "path")?;
        let arguments = take(190, "arguments")?;
        let flags = u32_at(header, 4);
        let depth = usize::from(u16_at(header, 192));
        let (path, mount) = paths(components, depth, flags & flags::PATH_CUT != 0);
        let (args, more) = args(arguments);
        let class = match u32_at(header, 48) {
            0 => KernelClass::Image,
            1 => KernelClass::Drift(DriftClass::New),
            2 => KernelClass::Drift(DriftClass::CopiedUp),
            3 => KernelClass::Drift(DriftClass::Foreign),
            4 => KernelClass::Drift(DriftClass::Unnamed),
            5 => KernelClass::Drift(DriftClass::Unknown),
            _ => return Err(Malformed("class")),
        };
        let container = &header[104..168];
        if !container.iter().all(u8::is_ascii_hexdigit) {
            return Err(Malformed("container"));
        }
        Ok(Self {
            flags,
            sequence: u64_at(header, 8),
            monotonic_ns: u64_at(header, 16),
            start_boottime_ns: u64_at(header, 24),
            cpu: u32_at(header, 32),
            pid: u32_at(header, 36),
            ppid: u32_at(header, 40),
            uid: u32_at(header, 44),
            class,
            device: u32_at(header, 52),
            root_device: u32_at(header, 56),
            links: u32_at(header, 60),
            inode: u64_at(header, 64),
            upper_inode: u64_at(header, 72),
            size: u64_at(header, 80),
            ctime_ns: u64_at(header, 88).cast_signed(),
            mtime_ns: u64_at(header, 96).cast_signed(),
            container: text(container),
            parent: text(&header[168..184]),
            filename,
            interpreter: (!interpreter.is_empty()).then(|| text(interpreter)),
            path,
            mount,
            args,
            args_cut: more || flags & flags::ARGS_CUT != 0,
        })
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Components come leaf first; the file's mount begins below component `depth`.
fn paths(components: &[u8], depth: usize, cut: bool) -> (String, String) {
    let names: Vec<String> = components.split_inclusive(|byte| *byte == 0).map(text).collect();
    let join = |names: &[String]| {
        let mut path = String::from(if cut { "…" } else { "" });
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        if path.is_empty() { "/".to_owned() } else { path }
    };
    (join(&names), join(names.get(depth..).unwrap_or_default()))
}

fn args(bytes: &[u8]) -> (Vec<String>, bool) {
    let mut args: Vec<String> = bytes.split_inclusive(|byte| *byte == 0).take(MAX_ARGS + 1).map(text).collect();
    let more = args.len() > MAX_ARGS;
    args.truncate(MAX_ARGS);
    (args, more)
}

fn u16_at(bytes: &[u8; HEADER], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes of a record with these variable parts.
    pub(crate) fn encode(filename: &[u8], interpreter: &[u8], path: &[u8], args: &[u8], depth: u16) -> Vec<u8> {
        let mut bytes = vec![0_u8; HEADER];
        bytes[104..168].fill(b'a');
        for (at, part) in [(184, filename), (186, interpreter), (188, path), (190, args)] {
            bytes[at..at + 2].copy_from_slice(&u16::try_from(part.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes[192..194].copy_from_slice(&depth.to_le_bytes());
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn paths_come_leaf_first_with_their_mount() {
        let record = ExecRecord::decode(&encode(b"./x\0", b"", b"x\0bin\0data\0", b"./x\0-v\0", 2)).unwrap();
        assert_eq!((record.path.as_str(), record.mount.as_str()), ("/data/bin/x", "/data"));
        assert_eq!((record.filename.as_str(), record.interpreter), ("./x", None));
        assert_eq!(record.args, ["./x", "-v"]);
        let on_root = ExecRecord::decode(&encode(b"/bin/sh\0", b"", b"sh\0bin\0", b"sh\0", 2)).unwrap();
        assert_eq!((on_root.path.as_str(), on_root.mount.as_str()), ("/bin/sh", "/"));
    }

    #[test]
    fn more_than_the_bound_of_arguments_is_said() {
        let record = ExecRecord::decode(&encode(b"x\0", b"", b"x\0", &b"a\0".repeat(40), 1)).unwrap();
        assert_eq!((record.args.len(), record.args_cut), (MAX_ARGS, true));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let record = ExecRecord::decode(&encode(b"\xff\xfe\0", b"", b"x\0", b"\x80\0", 1)).unwrap();
        assert_eq!((record.filename.as_str(), record.args[0].as_str()), ("\u{fffd}\u{fffd}", "\u{fffd}"));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
            let _ = ExecRecord::decode(&bytes);
        }

        #[test]
        fn lengths_that_point_outside_are_refused(
            lengths in proptest::array::uniform5(any::<u16>()), tail in proptest::collection::vec(any::<u8>(), 0..600)
        ) {
            let mut bytes = encode(b"", b"", b"", b"", 0);
            for (at, length) in (184..).step_by(2).zip(lengths) {
                bytes[at..at + 2].copy_from_slice(&length.to_le_bytes());
            }
            bytes.extend(&tail);
            let whole = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&whole.to_le_bytes());
            let fits = lengths[..4].iter().map(|l| usize::from(*l)).sum::<usize>() <= tail.len();
            prop_assert_eq!(ExecRecord::decode(&bytes).is_ok(), fits);
        }
    }
}
