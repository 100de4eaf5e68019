//! Loading, attaching, pinning; and adopting what an earlier agent left.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aya::{
    Btf, EbpfLoader,
    maps::{Map, MapData},
    programs::{BtfTracePoint, links::FdLink},
};
use sha2::{Digest as _, Sha256};

use super::{Maps, Pins, ProbeError, maps::open_pin, pins::MAPS, ring::Ring};
use crate::pipeline::Lane;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/exec.bpf.o"));
const PROGRAM: &str = "zastava_exec";
const TRACEPOINT: &str = "sched_process_exec";

/// What the kernel is told of the agent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where proc is mounted.
    pub proc: PathBuf,
    /// A process in the node's mount namespace: its first one.
    pub host_pid: u32,
    /// Without a heartbeat for so long nothing is killed.
    pub heartbeat_expiry: Duration,
}

/// The attached probe.
#[derive(Debug)]
pub struct Probe {
    /// Its maps.
    pub maps: Arc<Maps>,
    /// Records without drift.
    pub routine: Ring,
    /// Records of drift.
    pub urgent: Ring,
    /// Its statistics.
    pub statistics: Statistics,
    /// It was running before this agent.
    pub adopted: bool,
}

/// What the kernel counts of the program itself.
#[derive(Debug)]
pub struct Statistics {
    proc: PathBuf,
    program: OwnedFd,
    link: PathBuf,
}

impl Statistics {
    /// Execs for which the program was not called, since it was running on that CPU.
    pub fn recursion_misses(&self) -> io::Result<u64> {
        let path = self.proc.join("self/fdinfo").join(self.program.as_raw_fd().to_string());
        let text = fs::read_to_string(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
        Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    }

    /// Whether the pin that keeps the program attached is there.
    pub fn is_pinned(&self) -> bool {
        self.link.exists()
    }
}

/// Which program this agent brings.
pub fn build() -> u64 {
    let hash = Sha256::digest(OBJECT);
    hash.iter().take(8).fold(0, |build, byte| build << 8 | u64::from(*byte)).max(1)
}

/// CLOCK_MONOTONIC, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn refused(error: impl std::error::Error) -> ProbeError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    // The verifier's log can be megabytes; its end says why.
    let cut = text.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
    ProbeError::Refused(text.split_off(cut))
}

/// Attaches the probe, or adopts the one whose pins are there if it is the same program. A different one is replaced
/// without a gap: the new program takes the old one's maps, and one write puts it in charge.
pub fn attach(pins: &Pins, settings: &Settings) -> Result<Probe, ProbeError> {
    let btf = Btf::from_sys_fs().map_err(ProbeError::NoBtf)?;
    let folder = pins.folder();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| ProbeError::Pins { path: folder.to_owned(), source })?;
    if let Some(probe) = adopt(pins, settings)? {
        return Ok(probe);
    }
    match load(pins, settings, &btf) {
        // Pins that don't fit go; a program that is refused by itself leaves what runs in peace.
        Err(ProbeError::Refused(problem)) if has_pins(folder) && is_accepted_alone(&btf) => {
            tracing::warn!(problem, "the pins that were left don't fit this probe: they are removed");
            pins.remove().map_err(|source| ProbeError::Pins { path: folder.to_owned(), source })?;
            attach_anew(pins, settings, &btf)
        }
        other => other,
    }
}

fn has_pins(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut pins| pins.next().is_some())
}

/// Whether the kernel takes the program with maps of its own.
fn is_accepted_alone(btf: &Btf) -> bool {
    let Ok(mut object) = EbpfLoader::new().btf(Some(btf)).load(OBJECT) else { return false };
    let Some(program) = object.program_mut(PROGRAM) else { return false };
    <&mut BtfTracePoint>::try_from(program).is_ok_and(|program| program.load(TRACEPOINT, btf).is_ok())
}

fn attach_anew(pins: &Pins, settings: &Settings, btf: &Btf) -> Result<Probe, ProbeError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(pins.folder());
    made.map_err(|source| ProbeError::Pins { path: pins.folder().to_owned(), source })?;
    load(pins, settings, btf)
}

fn adopt(pins: &Pins, settings: &Settings) -> Result<Option<Probe>, ProbeError> {
    if !pins.link().exists() || !MAPS.iter().all(|name| pins.map(name).exists()) {
        return Ok(None);
    }
    let Ok(maps) = open_maps(pins) else { return Ok(None) };
    if maps.config()?.build != build() {
        return Ok(None);
    }
    let Ok(program) = open_pin(&pins.program()) else { return Ok(None) };
    finish(pins, settings, maps, program, true).map(Some)
}

fn open_maps(pins: &Pins) -> Result<Maps, ProbeError> {
    Maps::open(|name| {
        let data = MapData::from_pin(pins.map(name)).map_err(ProbeError::map(name))?;
        Map::from_map_data(data).map_err(ProbeError::map(name))
    })
}

fn load(pins: &Pins, settings: &Settings, btf: &Btf) -> Result<Probe, ProbeError> {
    let build = build();
    let paths: Vec<(&str, PathBuf)> = MAPS.iter().map(|name| (*name, pins.map(name))).collect();
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)).override_global("build", &build, true);
    for (name, path) in &paths {
        loader.map_pin_path(name, path.as_path());
    }
    let mut object = loader.load(OBJECT).map_err(refused)?;
    let program = object.program_mut(PROGRAM).ok_or_else(|| ProbeError::Refused(format!("no program {PROGRAM}")))?;
    let program: &mut BtfTracePoint = program.try_into().map_err(refused)?;
    program.load(TRACEPOINT, btf).map_err(refused)?;
    let link = program.attach().and_then(|id| program.take_link(id)).map_err(refused)?;

    // Pinned beside the old ones, so that at no moment nothing is pinned.
    let (next_link, next_program) = (Pins::next(&pins.link()), Pins::next(&pins.program()));
    for stale in [&next_link, &next_program] {
        remove_if_there(stale)?;
    }
    program.pin(&next_program).map_err(refused)?;
    FdLink::from(link).pin(&next_link).map_err(refused)?;
    let program = program.fd().map_err(refused)?.as_fd().try_clone_to_owned().map_err(refused)?;
    let maps = open_maps(pins)?;
    let probe = finish(pins, settings, maps, program, false)?;
    rename(&next_program, &pins.program())?;
    rename(&next_link, &pins.link())?;
    Ok(probe)
}

/// The old pin goes with the rename, and the old program with it.
fn rename(from: &Path, to: &Path) -> Result<(), ProbeError> {
    fs::rename(from, to).map_err(|source| ProbeError::Pins { path: to.to_owned(), source })
}

fn remove_if_there(path: &Path) -> Result<(), ProbeError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ProbeError::Pins { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Number of a namespace.
pub fn namespace(path: &Path) -> Result<u32, ProbeError> {
    let inode = fs::metadata(path).map_err(|source| ProbeError::Namespace { path: path.to_owned(), source })?.ino();
    Ok(u32::try_from(inode).unwrap_or(0))
}

fn finish(pins: &Pins, settings: &Settings, maps: Maps, program: OwnedFd, adopted: bool) -> Result<Probe, ProbeError> {
    let ring = |lane: Lane| {
        let name = Ring::map_name(lane);
        Ring::new(lane, &MapData::from_pin(pins.map(name)).map_err(ProbeError::map(name))?)
    };
    let (routine, urgent) = (ring(Lane::Routine)?, ring(Lane::Urgent)?);
    let pid_namespace = namespace(&settings.proc.join("self/ns/pid"))?;
    let host_mntns = namespace(&settings.proc.join(settings.host_pid.to_string()).join("ns/mnt"))?;
    let expiry = u64::try_from(settings.heartbeat_expiry.as_nanos()).unwrap_or(u64::MAX);
    maps.set_config(|config| {
        config.pidns = pid_namespace;
        config.host_mntns = host_mntns;
        // Until the runtime is known to live elsewhere, or where an earlier agent knew it to.
        if config.runtime_mntns == 0 {
            config.runtime_mntns = host_mntns;
        }
        config.agent = std::process::id();
        config.heartbeat_ns = monotonic_ns();
        config.heartbeat_expiry_ns = expiry;
        // From here on this program is in charge.
        config.build = build();
    })?;
    let statistics = Statistics { proc: settings.proc.clone(), program, link: pins.link() };
    Ok(Probe { maps: Arc::new(maps), routine, urgent, statistics, adopted })
}
