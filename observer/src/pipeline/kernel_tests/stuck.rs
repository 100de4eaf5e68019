use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use serde_json::json;
use zastava_crds::wire::event::{EventDetail, Killed};

use super::ground::{DEADLINE, Ground, Kept};

#[test]
fn what_waits_for_the_journal_is_judged_and_killed_once() {
    // More than a container may tell at once.
    const TRIES: usize = 40;
    let Some(ground) = Ground::new('4') else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    observing.running.shared.register.listed(vec![ground.told(0)]);
    observing.rules("1", "Enforce", &json!({"action": "Kill"}));
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    // What the container did to come up is no part of it.
    let before = observing.at_rest().stored;
    store.stuck.store(true, Ordering::Relaxed);
    let late = "printf '#!/bin/sh\\n/bin/busybox sleep 30\\n' > /late.sh; chmod 755 /late.sh; /late.sh";
    assert_eq!(inside.sh(late).0, 137);
    let end = Instant::now() + DEADLINE;
    while store.refused.load(Ordering::Relaxed) < TRIES {
        assert!(Instant::now() < end, "tried {} times", store.refused.load(Ordering::Relaxed));
        observing.running.wakers.wake();
        std::thread::yield_now();
    }
    store.stuck.store(false, Ordering::Relaxed);
    assert_eq!(store.drift("/late.sh").killed, Killed::Late);
    let accounting = observing.at_rest();
    assert_eq!((accounting.stored, accounting.combined), (before + 1, 0));
    let throttled = |event: &EventDetail| matches!(event, EventDetail::Throttling { .. });
    assert!(!store.events().iter().any(|(_, event)| throttled(&event.detail)), "{:#?}", store.events());
    observing.stop();
}
