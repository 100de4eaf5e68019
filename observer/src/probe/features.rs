//! What of the kernel the observer can use here, and why not the rest.

use std::{fs, path::Path};

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use serde::Serialize;

use super::{
    perf::{Count, Mappings},
    reference::TRACEFS,
};

/// The oldest kernel with all that is needed.
pub const MINIMUM: (u32, u32) = (5, 8);

/// One thing that the kernel may offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// Nothing is observed without it.
    pub needed: bool,
    /// What it is for.
    pub used_for: &'static str,
    /// Why it can't be used; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(release: &str) -> Option<String> {
    match version(release) {
        Some(version) if version >= MINIMUM => None,
        _ => Some(format!("this kernel is {release}; {}.{} or newer is needed", MINIMUM.0, MINIMUM.1)),
    }
}

fn readable(path: &str) -> Option<String> {
    fs::File::open(path).err().map(|error| format!("{path}: {error}"))
}

/// Tries each feature, and lets go of it again.
pub fn probe(bpffs: &Path) -> Vec<Feature> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let feature = |name, needed, used_for, missing| Feature { name, needed, used_for, missing };
    let mounted = bpffs.ancestors().find(|path| path.exists()).and_then(|path| rustix::fs::statfs(path).ok());
    let is_bpffs = mounted.is_some_and(|fs| u64::try_from(fs.f_type).is_ok_and(|magic| magic == 0xcafe_4a11));
    let mut tracepoint = TRACEFS.iter().map(|folder| format!("{folder}/events/sched/sched_process_exec/id"));
    let counting = tracepoint.find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    let counting = match counting {
        Some(id) => Count::of_tracepoint(id).err().map(|error| format!("perf_event_open: {error}")),
        None => Some(format!("no tracefs is mounted in any of {TRACEFS:?}")),
    };
    vec![
        feature("kernel", true, "typed tracepoints and the ring buffer", kernel(&release)),
        feature("btf", true, "one program for every kernel", readable("/sys/kernel/btf/vmlinux")),
        feature(
            "bpffs",
            true,
            "execs are seen while no observer runs",
            (!is_bpffs).then(|| format!("{} lies in no bpffs: mount one at /sys/fs/bpf", bpffs.display())),
        ),
        feature(
            "pidfd",
            false,
            "late kills that can't hit another process",
            pidfd_open(getpid(), PidfdFlags::empty()).err().map(|error| format!("pidfd_open: {error}")),
        ),
        feature(
            "mappings",
            false,
            "runtime.libraries",
            Mappings::open().err().map(|error| format!("perf_event_open: {error}")),
        ),
        feature("execCount", false, "the reference that the accounting is checked with", counting),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_with_what_is_needed() {
        assert_eq!(kernel("6.18.2-cloud-amd64"), None);
        assert_eq!(kernel("5.8.0"), None);
        assert_eq!(kernel("5.4.0-150-generic").unwrap(), "this kernel is 5.4.0-150-generic; 5.8 or newer is needed");
        assert!(kernel("strange").is_some());
    }

    #[test]
    fn what_is_missing_says_why() {
        let features = probe(Path::new("/proc/nowhere"));
        let bpffs = features.iter().find(|feature| feature.name == "bpffs").unwrap();
        assert!(bpffs.needed && bpffs.missing.as_ref().is_some_and(|why| why.contains("mount one")));
        assert!(features.iter().find(|feature| feature.name == "pidfd").unwrap().missing.is_none());
    }
}
