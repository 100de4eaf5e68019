//! The probe's maps, typed: mirrors the structs of bpf/record.h.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray},
};

use super::ProbeError;

/// A container id as maps are keyed by it.
pub type IdKey = [u8; 64];

/// The key of this container id; an id of another length has none.
pub fn id_key(id: &str) -> Option<IdKey> {
    id.as_bytes().try_into().ok()
}

/// `struct config`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The agent's pid namespace.
    pub pidns: u32,
    /// The mount namespace of the node.
    pub host_mntns: u32,
    /// That of the container runtime.
    pub runtime_mntns: u32,
    /// The agent's pid.
    pub agent: u32,
    /// CLOCK_MONOTONIC.
    pub heartbeat_ns: u64,
    /// Without a heartbeat for so long nothing is killed.
    pub heartbeat_expiry_ns: u64,
    /// Which program is in charge.
    pub build: u64,
}

/// `struct counters`; executed = foreign + filtered + emitted + lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of the program.
    pub executed: u64,
    /// Not of a container of this node.
    pub foreign: u64,
    /// Of no interest, or the runtime's own.
    pub filtered: u64,
    /// Records in the routine ring.
    pub emitted_routine: u64,
    /// Records in the urgent ring.
    pub emitted_urgent: u64,
    /// No room in the routine ring.
    pub lost_routine: u64,
    /// No room in the urgent ring.
    pub lost_urgent: u64,
    /// Processes killed.
    pub killed: u64,
}

/// `struct container_state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// Superblock of the container's root.
    pub root_device: u32,
    /// Its mount namespace.
    pub mntns: u32,
    /// 1: execs are judged.
    pub armed: u32,
    /// 1: the root is an overlay.
    pub overlay: u32,
    /// In which second it drifted last.
    pub second: u32,
    /// How often in that second.
    pub drifted: u32,
    /// 1: what ran before the probe was attached is known.
    pub listed: u32,
    /// Nothing.
    pub pad: u32,
}

/// Bits of [`KernelRules::flags`].
pub mod rule_flags {
    /// Drift is judged.
    pub const DRIFT: u32 = 1 << 0;
    /// Every exec is handed on.
    pub const EVERY_EXEC: u32 = 1 << 1;
    /// Look into `allowed_tops` before killing.
    pub const GUARDED: u32 = 1 << 2;
    /// Never kill here.
    pub const GUARD_ALL: u32 = 1 << 3;
}

/// `struct container_rules`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelRules {
    /// See [`rule_flags`].
    pub flags: u32,
    /// 1 << class.
    pub kill: u32,
    /// Names the container's part of `allowed_tops`.
    pub slot: u32,
    /// Nothing.
    pub pad: u32,
}

/// `struct top_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopKey {
    /// [`KernelRules::slot`].
    pub slot: u32,
    /// First component of an allowed path, cut.
    pub name: [u8; 28],
}

impl TopKey {
    /// The key of a path's first component.
    pub fn new(slot: u32, top: &str) -> Self {
        let mut name = [0; 28];
        // The kernel's copy of a name keeps a byte for its NUL.
        for (to, from) in name.iter_mut().take(27).zip(top.bytes()) {
            *to = from;
        }
        Self { slot, name }
    }
}

/// `struct verified_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VerifiedKey {
    /// Inode in the upper layer.
    pub upper_inode: u64,
    /// Its change time.
    pub ctime_ns: i64,
    /// The container's root.
    pub device: u64,
}

// SAFETY: plain old data without padding, of the layout that bpf/record.h gives.
unsafe impl Pod for Config {}
// SAFETY: as above.
unsafe impl Pod for Counters {}
// SAFETY: as above.
unsafe impl Pod for ContainerState {}
// SAFETY: as above.
unsafe impl Pod for KernelRules {}
// SAFETY: as above.
unsafe impl Pod for TopKey {}
// SAFETY: as above.
unsafe impl Pod for VerifiedKey {}

/// All maps but the rings.
pub struct Maps {
    config: Mutex<Array<MapData, Config>>,
    counters: PerCpuArray<MapData, Counters>,
    containers: Mutex<HashMap<MapData, IdKey, ContainerState>>,
    rules: Mutex<HashMap<MapData, IdKey, KernelRules>>,
    allowed_tops: Mutex<HashMap<MapData, TopKey, u32>>,
    verified: Mutex<HashMap<MapData, VerifiedKey, u32>>,
    tally: Mutex<Array<MapData, [u64; 16]>>,
    settled: Mutex<Array<MapData, u64>>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Maps {
    /// Takes each map by name from `open`.
    pub(super) fn open(mut open: impl FnMut(&'static str) -> Result<Map, ProbeError>) -> Result<Self, ProbeError> {
        macro_rules! typed {
            ($name:literal) => {
                open($name)?.try_into().map_err(ProbeError::map($name))?
            };
        }
        Ok(Self {
            config: Mutex::new(typed!("config")),
            counters: typed!("counters"),
            containers: Mutex::new(typed!("containers")),
            rules: Mutex::new(typed!("rules")),
            allowed_tops: Mutex::new(typed!("allowed_tops")),
            verified: Mutex::new(typed!("verified")),
            tally: Mutex::new(typed!("tally")),
            settled: Mutex::new(typed!("settled")),
        })
    }

    /// The settings in force.
    pub fn config(&self) -> Result<Config, ProbeError> {
        lock(&self.config).get(&0, 0).map_err(ProbeError::map("config"))
    }

    /// Changes the settings.
    pub fn set_config(&self, change: impl FnOnce(&mut Config)) -> Result<(), ProbeError> {
        let mut map = lock(&self.config);
        let mut config = map.get(&0, 0).map_err(ProbeError::map("config"))?;
        change(&mut config);
        map.set(0, config, 0).map_err(ProbeError::map("config"))
    }

    /// Sum over all CPUs.
    pub fn counters(&self) -> Result<Counters, ProbeError> {
        let values = self.counters.get(&0, 0).map_err(ProbeError::map("counters"))?;
        let mut sum = Counters::default();
        for cpu in values.iter() {
            sum.executed += cpu.executed;
            sum.foreign += cpu.foreign;
            sum.filtered += cpu.filtered;
            sum.emitted_routine += cpu.emitted_routine;
            sum.emitted_urgent += cpu.emitted_urgent;
            sum.lost_routine += cpu.lost_routine;
            sum.lost_urgent += cpu.lost_urgent;
            sum.killed += cpu.killed;
        }
        Ok(sum)
    }

    /// What the kernel found out of a container.
    pub fn container(&self, id: &IdKey) -> Result<Option<ContainerState>, ProbeError> {
        found(lock(&self.containers).get(id, 0)).map_err(ProbeError::map("containers"))
    }

    /// Tells the kernel a container's root; what it found out itself stays.
    pub fn arm(&self, id: &IdKey, state: ContainerState) -> Result<(), ProbeError> {
        let mut map = lock(&self.containers);
        match found(map.get(id, 0)).map_err(ProbeError::map("containers"))? {
            Some(known) if known.armed != 0 => Ok(()),
            _ => map.insert(id, state, 0).map_err(ProbeError::map("containers")),
        }
    }

    /// Notes that what ran in a container before the probe was attached is known.
    pub fn set_listed(&self, id: &IdKey) -> Result<(), ProbeError> {
        let mut map = lock(&self.containers);
        match found(map.get(id, 0)).map_err(ProbeError::map("containers"))? {
            Some(state) => {
                map.insert(id, ContainerState { listed: 1, ..state }, 0).map_err(ProbeError::map("containers"))
            }
            None => Ok(()),
        }
    }

    /// Forgets a container.
    pub fn forget(&self, id: &IdKey) -> Result<(), ProbeError> {
        gone(lock(&self.containers).remove(id)).map_err(ProbeError::map("containers"))
    }

    /// Puts a container's rules in force.
    pub fn put_rules(&self, id: &IdKey, rules: KernelRules) -> Result<(), ProbeError> {
        lock(&self.rules).insert(id, rules, 0).map_err(ProbeError::map("rules"))
    }

    /// Takes a container's rules away.
    pub fn drop_rules(&self, id: &IdKey) -> Result<(), ProbeError> {
        gone(lock(&self.rules).remove(id)).map_err(ProbeError::map("rules"))
    }

    /// Every container with rules.
    pub fn ruled(&self) -> Result<Vec<(IdKey, KernelRules)>, ProbeError> {
        lock(&self.rules).iter().collect::<Result<_, _>>().map_err(ProbeError::map("rules"))
    }

    /// Adds a first component of an allowed path.
    pub fn put_top(&self, key: TopKey) -> Result<(), ProbeError> {
        lock(&self.allowed_tops).insert(key, 1, 0).map_err(ProbeError::map("allowed_tops"))
    }

    /// Takes one away.
    pub fn drop_top(&self, key: &TopKey) -> Result<(), ProbeError> {
        gone(lock(&self.allowed_tops).remove(key)).map_err(ProbeError::map("allowed_tops"))
    }

    /// Every one there is.
    pub fn tops(&self) -> Result<Vec<TopKey>, ProbeError> {
        lock(&self.allowed_tops).keys().collect::<Result<_, _>>().map_err(ProbeError::map("allowed_tops"))
    }

    /// Remembers a file that is known to come from a lower layer.
    pub fn put_verified(&self, key: VerifiedKey) -> Result<(), ProbeError> {
        lock(&self.verified).insert(key, 1, 0).map_err(ProbeError::map("verified"))
    }

    pub(super) fn tally(&self) -> Result<[u64; 16], ProbeError> {
        lock(&self.tally).get(&0, 0).map_err(ProbeError::map("tally"))
    }

    pub(super) fn set_tally(&self, tally: [u64; 16]) -> Result<(), ProbeError> {
        lock(&self.tally).set(0, tally, 0).map_err(ProbeError::map("tally"))
    }

    pub(super) fn settled(&self, index: u32) -> Result<u64, ProbeError> {
        lock(&self.settled).get(&index, 0).map_err(ProbeError::map("settled"))
    }

    pub(super) fn set_settled(&self, index: u32, value: u64) -> Result<(), ProbeError> {
        lock(&self.settled).set(index, value, 0).map_err(ProbeError::map("settled"))
    }
}

/// `BPF_OBJ_GET`'s part of `union bpf_attr`.
#[repr(C)]
struct ObjectAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens whatever is pinned there. aya's own way to a pinned program asks for it by its id again, which needs
/// CAP_SYS_ADMIN.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    const BPF_OBJ_GET: libc::c_long = 7;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = ObjectAttributes { path: path.as_ptr().addr() as u64, fd: 0, flags: 0 };
    let length = libc::c_long::try_from(size_of::<ObjectAttributes>()).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes of attributes and the path they point to, both alive until it returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw const attributes, length) };
    match libc::c_int::try_from(fd) {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn found<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        // A removal tells a missing key as the system call does.
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_as_large_as_record_h_says() {
        assert_eq!(size_of::<Config>(), 40);
        assert_eq!(size_of::<Counters>(), 64);
        assert_eq!((size_of::<ContainerState>(), size_of::<KernelRules>()), (32, 16));
        assert_eq!((size_of::<TopKey>(), size_of::<VerifiedKey>()), (32, 24));
    }

    #[test]
    fn a_long_component_is_cut_as_the_kernel_cuts_it() {
        let long = "a".repeat(40);
        let key = TopKey::new(1, &long);
        assert_eq!((key.name[26], key.name[27]), (b'a', 0));
        assert_eq!(key, TopKey::new(1, &long[..30]));
    }
}
