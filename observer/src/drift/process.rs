//! A process by its pid, and only while it is still the one that was seen.

use std::{fs, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What became of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The signal was sent.
    Sent,
    /// The process was gone, or its pid belonged to another.
    Gone,
    /// The system refused.
    Refused(std::io::ErrorKind),
}

/// Start of a process in clock ticks of CLOCK_BOOTTIME, as /proc tells it.
pub fn monotonic_start(proc: &Path, pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a pid is still the process that started then; /proc counts in hundredths of a second on every architecture.
pub fn is_same(proc: &Path, pid: u32, start_boottime_ns: u64) -> bool {
    monotonic_start(proc, pid) == Some(start_boottime_ns / 10_000_000)
}

/// Kills a process through a pidfd.
pub fn kill(proc: &Path, pid: u32, start_boottime_ns: u64) -> Kill {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Kill::Gone };
    let fd = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Kill::Gone,
        Err(error) => return Kill::Refused(std::io::Error::from(error).kind()),
    };
    // The pidfd holds whoever has the pid now: only after it is held does it help to ask who that is.
    if !is_same(proc, pid, start_boottime_ns) {
        return Kill::Gone;
    }
    match pidfd_send_signal(&fd, Signal::KILL) {
        Ok(()) => Kill::Sent,
        Err(rustix::io::Errno::SRCH) => Kill::Gone,
        Err(error) => Kill::Refused(std::io::Error::from(error).kind()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_kill_needs_the_process_that_was_seen() {
        let proc = Path::new("/proc");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let start = monotonic_start(proc, child.id()).unwrap() * 10_000_000;
        assert_eq!(kill(proc, child.id(), start + 10_000_000), Kill::Gone);
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(kill(proc, child.id(), start + 9_999_999), Kill::Sent);
        assert!(!child.wait().unwrap().success());
        assert_eq!(kill(proc, child.id(), start), Kill::Gone);
    }
}
