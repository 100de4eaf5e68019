//! Whose a mapping is.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use zastava_crds::wire::event::Process;

use crate::drift::monotonic_start;

/// A process that is no container's is not asked again for so long.
const SURE: Duration = Duration::from_secs(2);
/// Processes of which that is known.
const MAX: usize = 8192;
/// Bytes of a file of /proc that are read.
const MAX_BYTES: usize = 16 << 10;

/// What /proc tells of a process that still runs.
#[derive(Debug, PartialEq, Eq)]
pub enum Owner {
    /// The process is gone, or its pid is another's.
    Gone,
    /// No container's.
    Node,
    /// This one's.
    Container(String),
}

/// Asks /proc.
#[derive(Debug)]
pub struct Owners {
    proc: PathBuf,
    node: HashMap<u32, Instant>,
}

impl Owners {
    /// With /proc mounted there.
    pub fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), node: HashMap::new() }
    }

    /// Whose process it is, if it is the one that ran at this moment of CLOCK_BOOTTIME.
    pub fn owner(&mut self, pid: u32, boottime_ns: u64, now: Instant) -> Owner {
        if self.node.get(&pid).is_some_and(|since| now.duration_since(*since) < SURE) {
            return Owner::Node;
        }
        let folder = self.proc.join(pid.to_string());
        let Ok(cgroups) = fs::read_to_string(folder.join("cgroup")) else { return Owner::Gone };
        // Clock ticks of a hundredth of a second: it started before it mapped.
        if monotonic_start(&self.proc, pid).is_none_or(|ticks| ticks * 10_000_000 > boottime_ns) {
            return Owner::Gone;
        }
        if let Some(id) = container(&cgroups) {
            return Owner::Container(id);
        }
        if self.node.len() >= MAX {
            self.node.clear();
        }
        self.node.insert(pid, now);
        Owner::Node
    }

    /// What is known of a process that runs.
    pub fn process(&self, pid: u32) -> Option<Process> {
        let folder = self.proc.join(pid.to_string());
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        let parent = field("PPid:")?.parse().ok()?;
        let mut args = fs::read(folder.join("cmdline")).unwrap_or_default();
        args.truncate(MAX_BYTES);
        let args: Vec<String> =
            args.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        let path = fs::read_link(folder.join("exe")).map(|path| path.to_string_lossy().into_owned());
        Some(Process {
            pid,
            ppid: parent,
            uid: field("Uid:")?.parse().ok()?,
            path: path.unwrap_or_default(),
            args_truncated: args.len() > crate::probe::record::MAX_ARGS,
            args: args.into_iter().take(crate::probe::record::MAX_ARGS).filter(|arg| !arg.is_empty()).collect(),
            parent: fs::read_to_string(self.proc.join(parent.to_string()).join("comm"))
                .ok()
                .map(|c| c.trim().to_owned()),
        })
    }
}

/// The outermost container id of a process's cgroups.
fn container(cgroups: &str) -> Option<String> {
    let mut paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(|path| path.split('/').find_map(id))
}

/// `<64 hex>`, `<prefix>-<64 hex>` or `<prefix>:<64 hex>`, with or without `.scope`.
fn id(name: &str) -> Option<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (before, id) = name.split_at_checked(name.len().checked_sub(64)?)?;
    // The monitor of a container is the node's, not the container's.
    let named = (before.is_empty() || before.ends_with(['-', ':'])) && !before.ends_with("conmon-");
    (named && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_container_is_the_owner() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let nested = format!("9:pids:/\n8:memory:/kubepods/burstable/pod1/{a}/docker/{b}\n0::/\n");
        assert_eq!(container(&nested), Some(a.clone()));
        assert_eq!(container(&format!("0::/kubepods.slice/cri-containerd-{a}.scope\n")), Some(a.clone()));
        assert_eq!(container(&format!("0::/x/cri-containerd:{a}\n")), Some(a));
        assert_eq!(container("0::/system.slice/kubelet.service\n"), None);
        assert_eq!(container(&format!("0::/x{}\n", "a".repeat(64))), None);
        assert_eq!(container(&format!("0::/kubepods.slice/crio-conmon-{b}.scope\n")), None);
        assert_eq!(container(&format!("0::/kubepods.slice/crio-{b}.scope/container\n")), Some(b));
    }

    #[test]
    fn a_process_that_started_later_is_another() {
        let mut owners = Owners::new(Path::new("/proc"));
        let pid = std::process::id();
        let start = monotonic_start(Path::new("/proc"), pid).unwrap() * 10_000_000;
        assert_eq!(owners.owner(pid, start - 10_000_000, Instant::now()), Owner::Gone);
        assert_ne!(owners.owner(pid, start, Instant::now()), Owner::Gone);
        assert_eq!(owners.process(pid).unwrap().pid, pid);
    }
}
