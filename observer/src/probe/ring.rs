//! The kernel's ring, read without giving anything back: its consumer position moves only when told to.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
};

use aya::maps::MapData;

use super::{ProbeError, mapped::Mapping};
use crate::pipeline::Lane;

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: u64 = 8;

/// One ring, mapped.
pub struct Ring {
    lane: Lane,
    map: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    size: u64,
    page: usize,
}

/// What lies at a position.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record, and the position behind it.
    Record(&'a [u8], u64),
    /// Nothing to see, and the position behind it.
    Discarded(u64),
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("lane", &self.lane).field("consumer", &self.consumer()).finish_non_exhaustive()
    }
}

impl Ring {
    /// Bytes of a lane's ring, as exec.bpf.c makes it.
    pub const fn bytes(lane: Lane) -> u64 {
        match lane {
            Lane::Routine => 4 << 20,
            Lane::Urgent => 1 << 20,
        }
    }

    /// The name of its map.
    pub const fn map_name(lane: Lane) -> &'static str {
        match lane {
            Lane::Routine => "ring_routine",
            Lane::Urgent => "ring_urgent",
        }
    }

    /// Maps a ring.
    pub(super) fn new(lane: Lane, map: &MapData) -> Result<Self, ProbeError> {
        let failed = |error: std::io::Error| ProbeError::Map { map: Self::map_name(lane), problem: error.to_string() };
        Self::over(lane, map.fd().as_fd().try_clone_to_owned().map_err(failed)?)
    }

    /// Over whatever is laid out as a ring.
    pub(crate) fn over(lane: Lane, map: OwnedFd) -> Result<Self, ProbeError> {
        let page = rustix::param::page_size();
        let size = Self::bytes(lane);
        let whole = page + 2 * usize::try_from(size).unwrap_or(usize::MAX / 4);
        let failed = |error: std::io::Error| ProbeError::Map { map: Self::map_name(lane), problem: error.to_string() };
        let fd = map.as_fd();
        let consumer = Mapping::new(fd, page, libc::PROT_READ | libc::PROT_WRITE, 0).map_err(failed)?;
        let producer = Mapping::new(fd, whole, libc::PROT_READ, page).map_err(failed)?;
        Ok(Self { lane, map, consumer, producer, size, page })
    }

    /// Which one it is.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Up to where the kernel may write over records.
    pub fn consumer(&self) -> u64 {
        self.consumer.position().load(Ordering::Acquire)
    }

    /// Gives everything before this position back to the kernel.
    pub fn advance(&mut self, position: u64) {
        // Readers of this ring hold records by a shared borrow, so none is held now.
        self.consumer.position().store(position, Ordering::Release);
    }

    /// Up to where the kernel has reserved room for records.
    pub fn end(&self) -> u64 {
        self.producer.position().load(Ordering::Acquire)
    }

    /// What lies at this position, which is one that was returned before or the consumer's; `None` when the kernel has
    /// written nothing there yet.
    pub fn read(&self, position: u64) -> Option<Item<'_>> {
        let end = self.producer.position().load(Ordering::Acquire);
        if position >= end {
            return None;
        }
        let offset = usize::try_from(position & (self.size - 1)).ok()?;
        let header = self.producer.word(self.page + offset)?.load(Ordering::Acquire);
        if header & BUSY != 0 {
            return None;
        }
        let length = header & !(BUSY | DISCARDED);
        let next = position + (HEADER + u64::from(length)).next_multiple_of(8);
        if header & DISCARDED != 0 {
            return Some(Item::Discarded(next));
        }
        let start = self.page + offset + 8;
        let bytes = self.producer.bytes(start, usize::try_from(length).ok()?)?;
        Some(Item::Record(bytes, next))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
