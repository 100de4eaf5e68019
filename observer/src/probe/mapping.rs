//! What a perf event tells of mappings, decoded.

/// Bytes of the identity at the end of each record: process, time, CPU.
const TRAILER: usize = 24;
const COMM: u32 = 3;
const LOST: u32 = 2;
const MMAP2: u32 = 10;
const COMM_IS_EXEC: u16 = 1 << 13;
/// Longest path that is taken.
const MAX_PATH: usize = 4096;

/// One executable mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Process, in the agent's pid namespace.
    pub pid: u32,
    /// CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// Where it ran.
    pub cpu: u32,
    /// Where it was mapped.
    pub address: u64,
    /// `major << 20 | minor` of the file's superblock.
    pub device: u32,
    /// Its number.
    pub inode: u64,
    /// Its path, from the root of the process.
    pub path: String,
}

/// A record of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A file was mapped.
    Mapped(Mapping),
    /// A process executed: what it maps next is its program.
    Executed {
        /// Which.
        pid: u32,
        /// CLOCK_MONOTONIC.
        monotonic_ns: u64,
    },
    /// There was no room for so many.
    Lost(u64),
}

impl Record {
    /// When it happened; losses come first.
    pub fn monotonic_ns(&self) -> u64 {
        match self {
            Self::Mapped(mapping) => mapping.monotonic_ns,
            Self::Executed { monotonic_ns, .. } => *monotonic_ns,
            Self::Lost(_) => 0,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Puts records in the order of time, across what is drained one after the other.
#[derive(Debug, Default)]
pub struct Order(Vec<Record>);

impl Order {
    /// What happened up to `until`, a moment before this was drained. What is later is handed out next time: older
    /// records of other CPUs may still come.
    pub fn take(&mut self, drained: &[u8], until: u64) -> Vec<Record> {
        let mut records = std::mem::take(&mut self.0);
        records.extend(decode(drained));
        // Each CPU's are in order already; those of several are not.
        records.sort_by_key(Record::monotonic_ns);
        self.0 = records.split_off(records.partition_point(|record| record.monotonic_ns() <= until));
        records
    }
}

/// All records of what was drained. What is not understood is left out.
fn decode(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(size) = bytes.get(6..8).map(|size| usize::from(u16::from_ne_bytes([size[0], size[1]]))) {
        let Some((record, rest)) = bytes.split_at_checked(size).filter(|_| size >= 8) else { break };
        records.extend(one(record));
        bytes = rest;
    }
    records
}

fn one(record: &[u8]) -> Option<Record> {
    let kind = u32_at(record, 0)?;
    let misc = u16::from_ne_bytes([*record.get(4)?, *record.get(5)?]);
    if kind == LOST {
        return Some(Record::Lost(u64_at(record, 16)?));
    }
    let identity = record.len().checked_sub(TRAILER)?;
    let pid = u32_at(record, 8)?;
    let monotonic_ns = u64_at(record, identity + 8)?;
    match kind {
        COMM if misc & COMM_IS_EXEC != 0 => Some(Record::Executed { pid, monotonic_ns }),
        MMAP2 => {
            let name = record.get(72..identity)?;
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len()).min(MAX_PATH);
            Some(Record::Mapped(Mapping {
                pid,
                monotonic_ns,
                cpu: u32_at(record, identity + 16)?,
                address: u64_at(record, 16)?,
                device: u32_at(record, 40)? << 20 | u32_at(record, 44)?,
                inode: u64_at(record, 48)?,
                path: String::from_utf8_lossy(&name[..end]).into_owned(),
            }))
        }
        _ => None,
    }
}

impl Mapping {
    /// Not memory that was never a file.
    pub fn is_of_a_file(&self) -> bool {
        self.inode != 0
            && self.path.starts_with('/')
            && !self.path.starts_with("//anon")
            && !self.path.starts_with("/dev/zero")
            && !self.path.starts_with("/SYSV")
    }

    /// Its file had no name when it was mapped.
    pub fn is_unnamed(&self) -> bool {
        self.path.starts_with("/memfd:") || self.path.ends_with(" (deleted)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u32, misc: u16, pid: u32, body: &[u8], time: u64) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(misc.to_ne_bytes());
        bytes.extend(u16::try_from(16 + body.len() + TRAILER).unwrap().to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(body);
        bytes.extend(u64::from(pid).to_ne_bytes());
        bytes.extend(time.to_ne_bytes());
        bytes.extend(1_u64.to_ne_bytes());
        bytes
    }

    #[test]
    fn records_come_in_the_order_of_time() {
        let mut body = Vec::new();
        for value in [0x1000_u64, 0x2000, 0] {
            body.extend(value.to_ne_bytes());
        }
        body.extend(8_u32.to_ne_bytes());
        body.extend(1_u32.to_ne_bytes());
        body.extend(42_u64.to_ne_bytes());
        body.extend([0; 16]);
        body.extend(b"/lib/x.so\0\0\0\0\0\0\0");
        let mut bytes = record(MMAP2, 2, 7, &body, 20);
        bytes.extend(record(COMM, COMM_IS_EXEC, 7, b"x\0\0\0\0\0\0\0", 10));
        bytes.extend(record(COMM, 0, 7, b"y\0\0\0\0\0\0\0", 11));
        let mapping = Mapping {
            pid: 7,
            monotonic_ns: 20,
            cpu: 1,
            address: 0x1000,
            device: 8 << 20 | 1,
            inode: 42,
            path: "/lib/x.so".to_owned(),
        };
        assert!(mapping.is_of_a_file() && !mapping.is_unnamed());
        let executed = Record::Executed { pid: 7, monotonic_ns: 10 };
        assert_eq!(Order::default().take(&bytes, 20), [executed, Record::Mapped(mapping)]);
    }

    #[test]
    fn what_came_while_others_were_drained_waits_for_what_is_older() {
        let executed = |monotonic_ns| record(COMM, COMM_IS_EXEC, 7, b"x\0\0\0\0\0\0\0", monotonic_ns);
        let times = |records: Vec<Record>| records.iter().map(Record::monotonic_ns).collect::<Vec<_>>();
        let mut order = Order::default();
        assert_eq!(times(order.take(&[executed(30), executed(5)].concat(), 20)), [5]);
        assert_eq!(times(order.take(&executed(25), 40)), [25, 30]);
        assert!(order.take(&[], u64::MAX).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_dealt_with(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            decode(&bytes);
        }
    }
}
