//! What the kernel says a process used.

use std::fs;
use std::time::Duration;

use crate::error::{At as _, Error, Result};

/// Clock ticks a second in `/proc/PID/stat`: fixed by the kernel's interface, whatever its timer does.
const TICKS: u64 = 100;

/// A process, by its number on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Process(u32);

/// Its memory, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Resident at most so far.
    pub peak: u64,
}

impl Process {
    /// The one process whose environment says it belongs to this pod.
    pub fn of_pod(program: &str, pod: &str) -> Result<Self> {
        let wanted = format!("HOSTNAME={pod}");
        let processes = fs::read_dir("/proc").at("/proc")?.filter_map(std::result::Result::ok);
        let mut found = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).filter(|pid| {
            let named =
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| program.starts_with(comm.trim()));
            let environment = || fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            named && environment().split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        });
        found.next().map(Self).ok_or_else(|| {
            Error::Invalid(format!(
                "no process {program} of pod {pod} on this machine: run it on a cluster of this harness"
            ))
        })
    }

    /// Processor time so far, user and system.
    pub fn cpu(self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.0);
        let text = fs::read_to_string(&path).at(&path)?;
        let after = text.rsplit_once(')').map(|(_, after)| after).unwrap_or_default();
        let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 1000 / TICKS))
    }

    /// Its number on this machine.
    pub fn id(self) -> u32 {
        self.0
    }

    /// Memory.
    pub fn memory(self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.0);
        let text = fs::read_to_string(&path).at(&path)?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        Ok(Memory { resident: field("VmRSS:"), peak: field("VmHWM:") })
    }
}
