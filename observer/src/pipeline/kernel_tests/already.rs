use std::{sync::Arc, time::Instant};

use serde_json::json;
use zastava_crds::wire::event::{DriftClass, EventDetail, Killed, RuntimeEvent};

use super::ground::{DEADLINE, Ground, Kept, Observing};
use crate::probe::maps::id_key;

/// Looks until the container was looked through.
fn listed(observing: &Observing, id: &str) {
    let end = Instant::now() + DEADLINE;
    let key = id_key(id).unwrap();
    while observing.running.shared.maps.container(&key).unwrap().is_none_or(|state| state.listed == 0) {
        assert!(Instant::now() < end, "never listed: {:?}", observing.running.look().unwrap());
        observing.running.look().unwrap();
    }
}

#[test]
fn what_drifted_before_the_observer_came_is_told_once_and_lives() {
    let Some(ground) = Ground::new('f') else { return };
    let store = Arc::new(Kept::default());
    let mut inside = ground.container();
    inside.sh("cp /bin/busybox /busybox_before; cp /bin/busybox /busybox_gone; cp /bin/busybox /data/busybox_foreign");
    let paths = ["/busybox_before", "/busybox_gone", "/data/busybox_foreign", "/bin/busybox", "/bin/busybox_chmod"];
    for path in paths {
        let runs = format!("[ \"$(/bin/busybox readlink /proc/$!/exe)\" = {path} ]");
        assert_eq!(inside.sh(&format!("{path} sleep 300 & until {runs}; do :; done")).0, 0);
    }
    // What it runs was the image's, and is: only its name is gone.
    assert_eq!(inside.sh("rm /busybox_gone /bin/busybox_chmod").0, 0);
    let kill = json!({"action": "Kill", "kill": ["New", "Unnamed", "Foreign"]});
    let observe = || {
        let observing = ground.observe(&store);
        observing.running.shared.register.listed(vec![ground.told(inside.child.id())]);
        observing.rules("1", "Enforce", &kill);
        observing
    };
    let observing = observe();
    listed(&observing, &ground.id);
    let facts = |event: &RuntimeEvent| match &event.detail {
        EventDetail::Drift { class, file, killed, .. } => Some((file.path.clone(), *class, *killed)),
        _ => None,
    };
    let told = || -> Vec<_> {
        let mut told: Vec<_> =
            store.events().iter().filter(|(_, e)| e.already_running).filter_map(|(_, e)| facts(e)).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        told
    };
    let there = [
        ("/busybox_before".to_owned(), DriftClass::New, Killed::No),
        ("/busybox_gone".to_owned(), DriftClass::Unnamed, Killed::No),
        ("/data/busybox_foreign".to_owned(), DriftClass::Foreign, Killed::No),
    ];
    assert_eq!(told(), there);
    let hashed = store.events().iter().all(|(_, event)| event.detail.file().is_none_or(|file| file.sha256.is_some()));
    assert!(hashed, "{:#?}", store.events());
    observing.stop();
    // The next agent adopts the probe, which has seen all since.
    let observing = observe();
    assert!(observing.adopted);
    observing.running.look().unwrap();
    observing.running.look().unwrap();
    observing.at_rest();
    assert_eq!(told(), there);
    observing.stop();
}
