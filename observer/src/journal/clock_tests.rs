//! Jumps of the clock: ages are measured by a clock that only runs on, and dates are only dates.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::event::{LossReason, Severity};

use super::{
    Journal, LossWindow,
    clock::Clock,
    cursor::LossKey,
    disk::Disk,
    tests::{BOUND, READER, drain, memory, put, small},
};

const HOUR: Duration = Duration::from_hours(1);

/// A date and the time since the process began, to be moved.
#[derive(Clone)]
struct Times(Arc<Mutex<(Timestamp, Duration)>>);

impl Times {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(("2026-03-01T12:00:00Z".parse().unwrap(), Duration::ZERO))))
    }

    fn open(&self, folder: &Path) -> Journal {
        let outside = (Disk::default(), Clock::Set(self.0.clone()));
        Journal::open_on(outside, folder, small(), &[READER], "boot").unwrap().0
    }

    fn jump(&self, by: SignedDuration) {
        self.0.lock().unwrap().0 += by;
    }

    /// Time goes by, on both clocks.
    fn pass(&self, by: Duration) {
        let mut times = self.0.lock().unwrap();
        *times = (times.0 + by, times.1 + by);
    }
}

fn evicted(journal: &Journal) -> Option<LossWindow> {
    let batch = journal.begin(READER, BOUND).unwrap()?;
    batch.losses.get(&LossKey(LossReason::JournalEvicted)).copied()
}

#[test]
fn a_clock_that_jumps_makes_nothing_old_and_nothing_young() {
    for jump in [SignedDuration::from_hours(24 * 365), SignedDuration::from_hours(-24 * 365)] {
        let folder = TempDir::new_in(memory()).unwrap();
        let times = Times::new();
        let journal = times.open(folder.path());
        put(&journal, Severity::High, 1).unwrap();
        times.jump(jump);
        put(&journal, Severity::High, 2).unwrap();
        times.pass(HOUR / 2);
        journal.book().expire();
        assert_eq!(journal.pending(READER), 2, "{jump:?}");
        times.pass(HOUR);
        journal.book().expire();
        let window = evicted(&journal).unwrap();
        assert_eq!(window.count, 2, "{jump:?}");
        assert!(window.from < window.until, "a stretch that ends before it begins: {window:?}");
    }
}

#[test]
fn what_an_earlier_process_left_is_as_old_as_its_date_and_what_is_dated_ahead_is_new() {
    let folder = TempDir::new_in(memory()).unwrap();
    let times = Times::new();
    let journal = times.open(folder.path());
    put(&journal, Severity::High, 1).unwrap();
    drop(journal);
    times.jump(SignedDuration::from_hours(-24 * 365));
    let journal = times.open(folder.path());
    journal.book().expire();
    assert_eq!(journal.pending(READER), 1);
    drop(journal);
    times.jump(SignedDuration::from_hours(24 * 365));
    times.pass(HOUR / 2);
    let journal = times.open(folder.path());
    // The date matters once, when the journal is opened.
    times.jump(SignedDuration::from_hours(24 * 365));
    journal.book().expire();
    assert_eq!(journal.pending(READER), 1);
    times.pass(HOUR / 2 + Duration::from_secs(1));
    journal.book().expire();
    assert_eq!(evicted(&journal).unwrap().count, 1);
}

#[test]
fn order_and_number_are_the_same_whatever_the_clock_says() {
    let folder = TempDir::new_in(memory()).unwrap();
    let times = Times::new();
    for n in 0..60 {
        let journal = times.open(folder.path());
        put(&journal, Severity::High, n).unwrap();
        times.jump(SignedDuration::from_mins(if n % 2 == 0 { -50 } else { 45 }));
    }
    assert_eq!(drain(&times.open(folder.path())), ((0..60).collect(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_record_leaves_by_its_age_though_nothing_new_comes() {
    let folder = TempDir::new_in(memory()).unwrap();
    let times = Times::new();
    let journal = times.open(folder.path());
    put(&journal, Severity::High, 1).unwrap();
    times.pass(HOUR + Duration::from_secs(1));
    let token = CancellationToken::new();
    let syncing = tokio::spawn(journal.clone().keep_synced(token.clone()));
    tokio::time::sleep(small().sync_interval * 2).await;
    token.cancel();
    syncing.await.unwrap();
    assert_eq!(evicted(&journal).unwrap().count, 1);
}
