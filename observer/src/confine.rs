//! System calls that the agent never makes, and so gives up for good: its privileges would make each of them the node.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Into other processes, around the mount table, and into the kernel.
const DENIED: [i64; 22] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
];
/// Marks a call of x86's 32-bit-pointer ABI, which would get around the plain numbers.
const X32: i64 = 0x4000_0000;
/// The calls above that have a number of their own there: ptrace, kexec_load, process_vm_readv, process_vm_writev.
const X32_ONLY: [i64; 4] = [521, 528, 539, 540];

/// The filter can't be put in place.
#[derive(Debug, thiserror::Error)]
#[error("the observer can't give up system calls: {0}; a kernel with CONFIG_SECCOMP_FILTER is needed")]
pub struct ConfineError(#[from] seccompiler::Error);

impl ConfineError {
    /// The closed class of this error, for metrics.
    pub const fn category(&self) -> &'static str {
        "seccomp_refused"
    }
}

/// Refuses the calls with EPERM to this thread and to whatever it starts from now on: to be called before any other
/// thread is there.
///
/// # Errors
/// [`ConfineError`]: nothing was given up then.
pub fn confine() -> Result<(), ConfineError> {
    Ok(apply_filter(&program()?)?)
}

fn program() -> Result<BpfProgram, seccompiler::Error> {
    let foreign = DENIED.iter().chain(&X32_ONLY).map(|number| number | X32);
    let denied = DENIED.into_iter().chain(foreign.filter(|_| cfg!(target_arch = "x86_64")));
    // An empty list of conditions: whatever its arguments.
    let rules: BTreeMap<_, _> = denied.map(|number| (number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::{io, thread};

    use super::*;

    #[allow(unsafe_code, reason = "no safe call of these is to be had")]
    fn errno(number: i64) -> Option<i32> {
        // SAFETY: no argument is an address or a descriptor that exists.
        let done = unsafe { libc::syscall(number, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
        (done == -1).then(|| io::Error::last_os_error().raw_os_error()).flatten()
    }

    #[test]
    fn what_was_given_up_is_refused_and_the_rest_is_not() {
        for number in [libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_ptrace] {
            assert_ne!(errno(number), Some(libc::EPERM), "{number} tells nothing: it is refused before");
        }
        // A filter holds for its thread: the test's others are left alone.
        let confined = thread::spawn(|| {
            confine().unwrap();
            for number in DENIED {
                assert_eq!(errno(number), Some(libc::EPERM), "{number}");
            }
            // What late kills and reading need is left.
            let own = rustix::process::getpid();
            let pidfd = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty());
            (std::fs::read("/proc/self/status").is_ok(), pidfd.is_ok())
        });
        assert_eq!(confined.join().unwrap(), (true, true));
    }
}
