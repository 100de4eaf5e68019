//! Memory that is shared with the kernel.

use std::{
    num::NonZeroUsize,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

/// A shared mapping of a part of a map, unmapped at the end.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone and is reached through atomics, or through bytes that the kernel has
// committed and does not change before they are given back.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(
        fd: BorrowedFd<'_>,
        length: usize,
        protection: i32,
        offset: usize,
    ) -> Result<Self, std::io::Error> {
        let length = NonZeroUsize::new(length).ok_or(std::io::ErrorKind::InvalidInput)?;
        let offset = libc::off_t::try_from(offset).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length.get(), protection, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(Self { start, length })
    }

    /// The position at the mapping's start.
    pub(super) fn position(&self) -> &AtomicU64 {
        // SAFETY: a mapping is at least a page, aligned to one, and lives as long as `self`.
        unsafe { self.start.cast::<AtomicU64>().as_ref() }
    }

    pub(super) fn long(&self, at: usize) -> Option<&AtomicU64> {
        if !at.is_multiple_of(8) || at + 8 > self.length.get() {
            return None;
        }
        // SAFETY: inside of the mapping and aligned.
        Some(unsafe { self.start.add(at).cast::<AtomicU64>().as_ref() })
    }

    pub(super) fn word(&self, at: usize) -> Option<&AtomicU32> {
        if !at.is_multiple_of(4) || at + 4 > self.length.get() {
            return None;
        }
        // SAFETY: inside of the mapping and aligned.
        Some(unsafe { self.start.add(at).cast::<AtomicU32>().as_ref() })
    }

    pub(super) fn bytes(&self, at: usize, length: usize) -> Option<&[u8]> {
        if at.checked_add(length)? > self.length.get() {
            return None;
        }
        // SAFETY: inside of the mapping; the kernel has committed these bytes and leaves them alone until the consumer
        // position passes them, which needs the exclusive borrow of the ring.
        Some(unsafe { std::slice::from_raw_parts(self.start.add(at).as_ptr(), length) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `new` and nobody borrows from it any more.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.length.get());
        }
    }
}
