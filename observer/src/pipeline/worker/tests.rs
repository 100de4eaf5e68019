//! A ring in memory, written as the kernel writes it. What it is judged with is a real probe's: needs root.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{MemfdFlags, memfd_create},
};
use serde_json::json;

use super::*;
use crate::{
    pipeline::{
        identity::Identity,
        kernel_tests::ground::{Ground, Kept, Observing},
    },
    probe::{
        record::tests::encode,
        settle::{Book, Pages as _, tests::Memory},
    },
};

const NEW: u32 = 1;
const UNNAMED: u32 = 4;
/// The note on a record that an earlier agent was about to tell with others.
const GROUPED: u64 = 7;

struct Written {
    memory: File,
    end: u64,
    notes: Arc<Memory>,
}

impl Written {
    fn new() -> Self {
        let memory = File::from(memfd_create("ring", MemfdFlags::CLOEXEC).unwrap());
        let page = rustix::param::page_size() as u64;
        memory.set_len(2 * page + 2 * Ring::bytes(Lane::Urgent)).unwrap();
        Self { memory, end: 0, notes: Arc::default() }
    }

    /// Adds an exec; its position.
    fn put(&mut self, container: &str, class: u32, path: &[u8]) -> u64 {
        let mut record = encode(path, b"", path, b"", 1);
        record[8..16].copy_from_slice(&self.end.to_le_bytes());
        record[48..52].copy_from_slice(&class.to_le_bytes());
        record[104..168].copy_from_slice(container.as_bytes());
        let position = self.end;
        let page = rustix::param::page_size() as u64;
        let mut bytes = u64::try_from(record.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(record);
        self.memory.write_all_at(&bytes, 2 * page + position).unwrap();
        self.end += (bytes.len() as u64).next_multiple_of(8);
        self.memory.write_all_at(&self.end.to_le_bytes(), page).unwrap();
        position
    }

    fn index(position: u64) -> u32 {
        u32::try_from((Ring::bytes(Lane::Routine) + position) / 128).unwrap()
    }

    fn put_grouped(&mut self, container: &str, class: u32, path: &[u8]) {
        let position = self.put(container, class, path);
        self.notes.set_note(Self::index(position), position | GROUPED).unwrap();
    }

    fn is_grouped(&self, position: u64) -> bool {
        self.notes.note(Self::index(position)).unwrap() == position | GROUPED
    }

    fn worker(&self, observing: &Observing, store: &Arc<Kept>) -> Worker {
        let shared = observing.running.shared.clone();
        let judge = Judge {
            identity: Identity::read("node", Path::new("/proc")).unwrap(),
            examiner: shared.examiner.clone(),
            maps: shared.maps.clone(),
            proc: "/proc".into(),
        };
        let ring = Ring::over(Lane::Urgent, self.memory.try_clone().unwrap().into()).unwrap();
        let ledger = Ledger::new(Book::open(self.notes.clone()).unwrap(), Lane::Urgent, 0);
        let wake = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        Worker::new(ring, ledger, wake, judge, shared, store.clone(), Duration::from_mins(1), 64)
    }
}

fn observe(ground: &Ground, store: &Arc<Kept>) -> Observing {
    let observing = ground.observe(store);
    observing.running.shared.register.listed(vec![ground.told(0)]);
    observing.rules("1", "Audit", &json!({"action": "Audit"}));
    observing
}

fn counts(store: &Kept, path: &str) -> Vec<u64> {
    let events = store.events();
    let about = |event: &RuntimeEvent| event.detail.file().is_some_and(|file| file.path == path);
    let about = events.iter().filter(|(_, event)| about(event));
    about.map(|(_, event)| event.combined.as_ref().map_or(1, |combined| combined.count)).collect()
}

#[test]
fn what_an_earlier_agent_was_about_to_tell_at_once_is_told_at_once() {
    let Some(ground) = Ground::new('6') else { return };
    let store = Arc::new(Kept::default());
    let observing = observe(&ground, &store);
    let mut ring = Written::new();
    ring.put_grouped(&ground.id, NEW, b"many\0");
    ring.put_grouped(&ground.id, NEW, b"many\0");
    ring.put(&ground.id, UNNAMED, b"other\0");
    ring.put_grouped(&ground.id, NEW, b"many\0");
    ring.put_grouped(&ground.id, NEW, b"many\0");
    let mut worker = ring.worker(&observing, &store);
    store.stuck.store(true, Ordering::Relaxed);
    worker.turn().unwrap();
    store.stuck.store(false, Ordering::Relaxed);
    worker.turn().unwrap();
    worker.turn().unwrap();
    assert_eq!((counts(&store, "/many"), counts(&store, "/other")), (vec![4], vec![1]));
    assert_eq!(worker.ledger.consumed(), ring.end);
    observing.stop();
}

#[test]
fn no_group_is_begun_while_an_earlier_agents_waits() {
    let Some(ground) = Ground::new('7') else { return };
    let store = Arc::new(Kept::default());
    let observing = observe(&ground, &store);
    let mut ring = Written::new();
    let unknown = "0".repeat(64);
    ring.put_grouped(&unknown, NEW, b"old\0");
    let noise: Vec<u64> = (0..40).map(|_| ring.put(&ground.id, NEW, b"noise\0")).collect();
    let mut worker = ring.worker(&observing, &store);
    worker.turn().unwrap();
    worker.tell_groups(true).unwrap();
    assert!(counts(&store, "/noise").iter().all(|count| *count == 1), "{:?}", counts(&store, "/noise"));
    assert!(!noise.iter().any(|position| ring.is_grouped(*position)));
    // Once it is known what becomes of the old one, the new ones are told.
    observing.running.shared.register.listed(vec![ground.told(0)]);
    worker.pending_age = Duration::ZERO;
    worker.turn().unwrap();
    worker.tell_groups(true).unwrap();
    assert_eq!(counts(&store, "/noise").iter().sum::<u64>(), 40);
    assert_eq!(worker.ledger.consumed(), ring.end);
    observing.stop();
}

#[test]
fn what_waits_for_metadata_is_bounded_in_number_and_time_and_counted() {
    let Some(ground) = Ground::of("e1") else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    observing.rules("1", "Audit", &json!({"action": "Audit"}));
    let mut ring = Written::new();
    for number in 0..10 {
        ring.put(&ground.id, NEW, format!("waits_{number}\0").as_bytes());
    }
    let mut worker = ring.worker(&observing, &store);
    let notes = ring.notes.clone();
    let dropped = || {
        let dropped = Book::open(notes.clone()).unwrap().sums().dropped;
        dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect::<Vec<_>>()
    };
    worker.pending_max = 6;
    worker.turn().unwrap();
    // The oldest go, each with its reason; the others are not told on a guess.
    assert_eq!(worker.waiting.len(), 6);
    assert_eq!(dropped(), [("pending_expired".to_owned(), 4)]);
    assert_eq!(store.paths(), Vec::<String>::new());
    // In time: what waited is told, and whose it is.
    observing.running.shared.register.seen(ground.told(0));
    worker.turn().unwrap();
    assert_eq!(worker.waiting.len(), 0);
    assert_eq!(store.paths(), (4..10).map(|number| format!("/waits_{number}")).collect::<Vec<_>>());
    // Too late.
    ring.put(&"0".repeat(64), NEW, b"never\0");
    worker.pending_age = Duration::ZERO;
    worker.turn().unwrap();
    worker.turn().unwrap();
    assert_eq!(dropped(), [("pending_expired".to_owned(), 5)]);
    assert_eq!(worker.ledger.consumed(), ring.end);
    assert_eq!(store.paths().len(), 6);
    observing.stop();
}
