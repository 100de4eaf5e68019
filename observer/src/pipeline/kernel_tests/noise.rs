use std::sync::Arc;

use serde_json::json;
use zastava_crds::wire::event::{DriftClass, EventDetail, Severity};

use super::{
    super::Lane,
    ground::{Ground, Kept},
};

#[test]
fn a_noisy_container_is_told_in_few_events_that_count_all_and_a_severe_one_comes_through() {
    const NOISE: u64 = 400;
    let Some(ground) = Ground::new('d') else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    observing.running.shared.register.listed(vec![ground.told(0)]);
    observing.rules("1", "Audit", &json!({"action": "Audit"}));
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    let noise = format!(
        "cp /bin/busybox /busybox_noise; cp /bin/busybox /busybox_gone; exec 3</busybox_gone; rm /busybox_gone; \
         i=0; while [ $i -lt {NOISE} ]; do /busybox_noise true; i=$((i+1)); done; /proc/self/fd/3 true"
    );
    inside.sh(&noise);
    let severe = store.drift("/busybox_gone");
    assert_eq!((severe.class, severe.severity), (DriftClass::Unnamed, Severity::Critical));
    let accounting = observing.at_rest();
    let events = store.events();
    let noise =
        events.iter().filter(|(_, event)| event.detail.file().is_some_and(|file| file.path == "/busybox_noise"));
    let told: Vec<u64> = noise.map(|(_, event)| event.combined.as_ref().map_or(1, |combined| combined.count)).collect();
    assert_eq!(told.iter().sum::<u64>(), NOISE, "{told:?}");
    assert!(told.len() < 100, "{} events", told.len());
    let started = |(lane, event): &&(Lane, _)| {
        let event: &zastava_crds::wire::event::RuntimeEvent = event;
        *lane == Lane::Routine && matches!(event.detail, EventDetail::Throttling { started: true, .. })
    };
    assert_eq!(events.iter().filter(started).count(), 1);
    let all = events.iter().filter(|(_, event)| event.detail.file().is_some());
    let all: u64 = all.map(|(_, event)| event.combined.as_ref().map_or(1, |combined| combined.count)).sum();
    assert_eq!(accounting.stored, all);
    assert_eq!(accounting.combined, told.iter().filter(|count| **count > 1).sum::<u64>());
    observing.stop();
}
