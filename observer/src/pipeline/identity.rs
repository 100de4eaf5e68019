//! Identity and time of events.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use zastava_crds::wire::event::EventId;

use super::StartError;
use crate::probe::{load::monotonic_ns, mapping::Mapping, record::ExecRecord};

/// The node and its boot.
#[derive(Clone, Debug)]
pub struct Identity {
    node_uid: String,
    /// Of this boot.
    pub boot_id: String,
}

impl Identity {
    /// Reads this boot's id.
    pub fn read(node_uid: &str, proc: &Path) -> Result<Self, StartError> {
        let path: PathBuf = proc.join("sys/kernel/random/boot_id");
        let boot_id = fs::read_to_string(&path).map_err(|source| StartError::BootId { path, source })?;
        Ok(Self { node_uid: node_uid.to_owned(), boot_id: boot_id.trim().to_owned() })
    }

    /// Fixed in the kernel: nothing of it comes from enrichment.
    pub fn event_id(&self, record: &ExecRecord) -> EventId {
        self.id("exec", record.cpu, [record.sequence, record.monotonic_ns])
    }

    /// The same of a mapping: no CPU maps twice at one moment and place.
    pub fn mapping_id(&self, mapping: &Mapping) -> EventId {
        self.id("mapping", mapping.cpu, [mapping.address, mapping.monotonic_ns])
    }

    /// The same of a process that was found running: it is told once, whoever finds it.
    pub fn running_id(&self, pid: u32, start_ticks: u64, inode: u64) -> EventId {
        self.id("running", pid, [start_ticks, inode])
    }

    fn id(&self, kind: &str, cpu: u32, numbers: [u64; 2]) -> EventId {
        let mut hasher = Sha256::new();
        for text in [self.node_uid.as_str(), self.boot_id.as_str(), kind] {
            // Lengths keep neighbours apart.
            hasher.update(u64::try_from(text.len()).unwrap_or(0).to_le_bytes());
            hasher.update(text);
        }
        hasher.update(cpu.to_le_bytes());
        for number in numbers {
            hasher.update(number.to_le_bytes());
        }
        EventId(hex::encode(&hasher.finalize()[..16]))
    }
}

/// A moment of CLOCK_MONOTONIC as the wall clock tells it now.
pub fn wall_clock(monotonic: u64) -> Timestamp {
    let ago = monotonic_ns().saturating_sub(monotonic);
    let ago = SignedDuration::from_nanos(i64::try_from(ago).unwrap_or(0));
    Timestamp::now().checked_sub(ago).unwrap_or_else(|_| Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::record::tests::encode;

    #[test]
    fn equal_things_are_two_events_and_one_thing_is_one() {
        let identity = Identity { node_uid: "n".into(), boot_id: "b".into() };
        let record = ExecRecord::decode(&encode(b"x\0", b"", b"x\0", b"x\0", 1)).unwrap();
        let id = identity.event_id(&record);
        assert_eq!(id.0.len(), 32);
        assert_eq!(id, identity.event_id(&ExecRecord { path: "/enriched".into(), ..record.clone() }));
        assert_ne!(id, identity.event_id(&ExecRecord { sequence: 1, ..record.clone() }));
        assert_ne!(id, identity.event_id(&ExecRecord { cpu: 1, ..record.clone() }));
        let other = Identity { node_uid: "nb".into(), boot_id: String::new() };
        assert_ne!(id, other.event_id(&record));
    }
}
