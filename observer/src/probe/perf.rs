//! Perf events of the kernel: one that counts execs, and one that tells of every executable mapping.

use std::{
    io,
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    sync::atomic::Ordering,
};

use super::mapped::Mapping;

/// Pages of one CPU's buffer: half a second of the most mappings that a CPU can make.
const PAGES: usize = 32;
/// Where the kernel's page holds how far it has written, and how far we have read.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

const TYPE_SOFTWARE: u32 = 1;
const TYPE_TRACEPOINT: u32 = 2;
const SOFTWARE_DUMMY: u64 = 9;
const SAMPLE_TID: u64 = 1 << 1;
const SAMPLE_TIME: u64 = 1 << 2;
const SAMPLE_CPU: u64 = 1 << 7;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const MMAP: u64 = 1 << 8;
const COMM: u64 = 1 << 9;
const WATERMARK: u64 = 1 << 14;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const MMAP2: u64 = 1 << 23;
const COMM_EXEC: u64 = 1 << 24;
const USE_CLOCKID: u64 = 1 << 25;
const FLAG_FD_CLOEXEC: libc::c_ulong = 8;

/// `struct perf_event_attr` as of its fifth version.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

/// An event on everything that runs on one CPU.
fn open(attributes: &Attributes, cpu: u32) -> io::Result<OwnedFd> {
    let cpu = libc::c_int::try_from(cpu).map_err(|_| io::ErrorKind::InvalidInput)?;
    let (every_process, no_group): (libc::c_int, libc::c_int) = (-1, -1);
    // SAFETY: the kernel reads as many bytes of the attributes as their size says.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(attributes),
            every_process,
            cpu,
            no_group,
            FLAG_FD_CLOEXEC,
        )
    };
    match libc::c_int::try_from(fd) {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn attributes(kind: u32, config: u64) -> Attributes {
    Attributes { kind, size: u32::try_from(size_of::<Attributes>()).unwrap_or(0), config, ..Attributes::default() }
}

fn cpus() -> io::Result<Vec<u32>> {
    aya::util::online_cpus().map_err(|(path, error)| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// A count that the kernel keeps of a tracepoint: it loses nothing.
#[derive(Debug)]
pub struct Count(Vec<OwnedFd>);

impl Count {
    /// Starts to count the tracepoint of this id.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn of_tracepoint(id: u64) -> io::Result<Self> {
        let attributes = attributes(TYPE_TRACEPOINT, id);
        cpus()?.into_iter().map(|cpu| open(&attributes, cpu)).collect::<io::Result<_>>().map(Self)
    }

    /// The count so far, on every CPU.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(&self) -> io::Result<u64> {
        let mut sum = 0;
        for fd in &self.0 {
            let mut value = [0; 8];
            rustix::io::read(fd, &mut value)?;
            sum += u64::from_ne_bytes(value);
        }
        Ok(sum)
    }
}

/// One CPU's buffer of mappings. The event ends with it.
struct Buffer {
    cpu: u32,
    memory: Mapping,
    /// Closed after the memory is unmapped.
    _event: OwnedFd,
}

/// What every CPU maps, from the moment it is opened.
pub struct Mappings(Vec<Buffer>);

impl std::fmt::Debug for Mappings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mappings").field(&self.0.len()).finish()
    }
}

impl Mappings {
    /// Starts to watch executable mappings.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open() -> io::Result<Self> {
        cpus()?.into_iter().map(Buffer::open).collect::<io::Result<_>>().map(Self)
    }

    /// Watches processors that were added since as well, and no longer those that went.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn follow(&mut self) -> io::Result<()> {
        let online = cpus()?;
        self.0.retain(|buffer| online.contains(&buffer.cpu));
        for cpu in online {
            if self.0.iter().all(|buffer| buffer.cpu != cpu) {
                self.0.push(Buffer::open(cpu)?);
            }
        }
        Ok(())
    }

    /// Everything that came since, CPU by CPU, as the kernel wrote it.
    pub fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for buffer in &mut self.0 {
            buffer.drain(&mut bytes);
        }
        bytes
    }
}

impl Buffer {
    fn open(cpu: u32) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let attributes = Attributes {
            sample_type: SAMPLE_TID | SAMPLE_TIME | SAMPLE_CPU,
            flags: EXCLUDE_KERNEL | MMAP | MMAP2 | COMM | COMM_EXEC | SAMPLE_ID_ALL | USE_CLOCKID | WATERMARK,
            // It is looked at every now and then: being woken by each mapping would cost more than the mapping.
            wakeup: u32::try_from(PAGES * page).unwrap_or(u32::MAX),
            clockid: libc::CLOCK_MONOTONIC,
            ..attributes(TYPE_SOFTWARE, SOFTWARE_DUMMY)
        };
        let event = open(&attributes, cpu)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        Ok(Self { cpu, memory: Mapping::new(event.as_fd(), (PAGES + 1) * page, protection, 0)?, _event: event })
    }

    fn drain(&mut self, into: &mut Vec<u8>) -> Option<()> {
        let page = rustix::param::page_size();
        let size = PAGES * page;
        let head = self.memory.long(HEAD)?.load(Ordering::Acquire);
        let tail = self.memory.long(TAIL)?.load(Ordering::Relaxed);
        let length = usize::try_from(head.wrapping_sub(tail)).ok()?.min(size);
        let start = usize::try_from(tail).ok()? & (size - 1);
        let first = length.min(size - start);
        into.extend_from_slice(self.memory.bytes(page + start, first)?);
        into.extend_from_slice(self.memory.bytes(page, length - first)?);
        self.memory.long(TAIL)?.store(head, Ordering::Release);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_as_large_as_their_version_says() {
        assert_eq!(size_of::<Attributes>(), 112);
    }

    #[test]
    fn a_processor_that_comes_later_is_watched() {
        let mut mappings = match Mappings::open() {
            Ok(mappings) => mappings,
            Err(error) => {
                println!("SKIPPED: mappings can't be watched here: {error}");
                return;
            }
        };
        let all = mappings.0.len();
        mappings.0.pop();
        mappings.follow().unwrap();
        assert_eq!(mappings.0.len(), all);
        mappings.follow().unwrap();
        assert_eq!(mappings.0.len(), all, "none is watched twice");
    }
}
