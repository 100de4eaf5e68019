//! A store in memory.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use zastava_crds::wire::event::{DriftClass, EventDetail, ExecutedFile, Killed, RuntimeEvent, Severity};

use super::{
    super::{Lane, Store, StoreError},
    ground::DEADLINE,
};

/// Keeps events in memory, and lets a test wait for them.
#[derive(Default)]
pub struct Kept {
    events: Mutex<Vec<(Lane, RuntimeEvent)>>,
    came: Condvar,
    /// It takes nothing.
    pub stuck: AtomicBool,
    /// How often it took nothing.
    pub refused: AtomicUsize,
}

impl Store for Kept {
    fn append(&self, lane: Lane, event: &RuntimeEvent) -> Result<(), StoreError> {
        if self.stuck.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Unavailable("stuck".into()));
        }
        self.events.lock().unwrap().push((lane, event.clone()));
        self.came.notify_all();
        Ok(())
    }
}

#[derive(Debug)]
pub struct Drift {
    pub class: DriftClass,
    pub severity: Severity,
    pub killed: Killed,
    pub would_kill: bool,
    pub hashed: bool,
    /// The whole file, for a failure's message.
    pub file: ExecutedFile,
    pub interpreter: Option<String>,
}

impl Kept {
    /// The library's event about this path.
    pub fn library(&self, wanted: &str) -> RuntimeEvent {
        let end = Instant::now() + DEADLINE;
        let mut events = self.events.lock().unwrap();
        loop {
            let is_it = |event: &RuntimeEvent| matches!(&event.detail, EventDetail::Library { file, .. } if file.path == wanted);
            if let Some((_, event)) = events.iter().find(|(_, event)| is_it(event)) {
                return event.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no library {wanted}; there is: {events:#?}");
            events = self.came.wait_timeout(events, left).unwrap().0;
        }
    }

    /// The drift event about this path.
    pub fn drift(&self, wanted: &str) -> Drift {
        let end = Instant::now() + DEADLINE;
        let mut events = self.events.lock().unwrap();
        loop {
            let found = events.iter().find_map(|(lane, event)| match &event.detail {
                EventDetail::Drift { class, file, killed, would_kill, .. } if file.path == wanted => {
                    assert_eq!(*lane, Lane::from(event.severity));
                    Some(Drift {
                        class: *class,
                        severity: event.severity,
                        killed: *killed,
                        would_kill: *would_kill,
                        hashed: file.sha256.is_some(),
                        file: file.clone(),
                        interpreter: file.interpreter.clone(),
                    })
                }
                _ => None,
            });
            if let Some(found) = found {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no drift of {wanted}; there is: {events:#?}");
            events = self.came.wait_timeout(events, left).unwrap().0;
        }
    }

    pub fn events(&self) -> Vec<(Lane, RuntimeEvent)> {
        self.events.lock().unwrap().clone()
    }

    pub fn paths(&self) -> Vec<String> {
        let path = |event: &RuntimeEvent| event.detail.file().map(|file| file.path.clone());
        self.events.lock().unwrap().iter().filter_map(|(_, event)| path(event)).collect()
    }
}
