use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use serde_json::json;
use zastava_crds::wire::event::{DriftClass, EventDetail, Killed, RuntimeEvent};

use super::ground::{DEADLINE, Ground, Inside, Kept, Observing};
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

/// Starts this program of the container and waits until it runs.
fn start(inside: &mut Inside, path: &str) {
    let runs = format!("[ \"$(/bin/busybox readlink /proc/$!/exe)\" = {path} ]");
    assert_eq!(inside.sh(&format!("{path} sleep 300 & until {runs}; do :; done")).0, 0);
}

fn already_running(store: &Kept) -> Vec<String> {
    let events = store.events();
    let told = events.iter().filter(|(_, event)| event.already_running).filter_map(|(_, event)| event.detail.file());
    let mut told: Vec<String> = told.map(|file| file.path.clone()).collect();
    told.sort();
    told
}

#[test]
fn an_exec_from_outside_hides_nothing_that_ran_before() {
    let Some(ground) = Ground::new('1') else { return };
    let store = Arc::new(Kept::default());
    let mut inside = ground.container();
    inside.sh("cp /bin/busybox /busybox_before");
    start(&mut inside, "/busybox_before");
    let observing = ground.observe(&store);
    // As a runtime does for `kubectl exec` and for exec probes.
    let enter = format!("{} exec nsenter -t {} -m /bin/busybox true", ground.join(), inside.child.id());
    let status = Command::new("sh").args(["-ec", &enter]).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    let state = observing.running.shared.maps.container(&id_key(&ground.id).unwrap()).unwrap().unwrap();
    assert_eq!((state.armed, state.listed), (1, 0));
    observing.running.shared.register.listed(vec![ground.told(inside.child.id())]);
    observing.rules("1", "Audit", &json!({"action": "Audit"}));
    listed(&observing, &ground.id);
    assert_eq!(already_running(&store), ["/busybox_before"]);
    observing.stop();
}

#[test]
fn what_ran_before_its_container_could_be_judged_is_told() {
    let Some(ground) = Ground::new('2') else { return };
    let store = Arc::new(Kept::default());
    let mut inside = ground.container();
    inside.sh("cp /bin/busybox /busybox_unarmed");
    let observing = ground.observe(&store);
    start(&mut inside, "/busybox_unarmed");
    observing.running.shared.register.listed(vec![ground.told(inside.child.id())]);
    observing.rules("1", "Audit", &json!({"action": "Audit"}));
    listed(&observing, &ground.id);
    assert_eq!(already_running(&store), ["/busybox_unarmed"]);
    observing.stop();
}

#[test]
fn a_noisy_container_keeps_nothing_from_being_told_and_a_tick_tells_few() {
    const THERE: usize = 40;
    let Some(ground) = Ground::new('3') else { return };
    let store = Arc::new(Kept::default());
    let mut inside = ground.container();
    inside.sh("cp /bin/busybox /busybox_before; cp /bin/busybox /busybox_noise; cp /bin/busybox /busybox_other");
    inside.sh(&format!("i=0; while [ $i -lt {THERE} ]; do /busybox_before sleep 300 & i=$((i+1)); done"));
    let running = "/bin/busybox ls -l /proc/[0-9]*/exe 2>/dev/null | /bin/busybox grep -c busybox_before";
    assert_eq!(inside.sh(&format!("until [ $({running}) = {THERE} ]; do :; done")).0, 0);
    let observing = ground.observe(&store);
    // Two that are combined apart: the one's records wait in the ring while the other's are told.
    for noise in ["/busybox_noise", "/busybox_other"] {
        assert_eq!(inside.sh(&format!("while [ -e {noise} ]; do {noise} true; done &")).0, 0);
    }
    observing.running.shared.register.listed(vec![ground.told(inside.child.id())]);
    observing.rules("1", "Audit", &json!({"action": "Audit"}));
    let told = || already_running(&store).iter().filter(|path| *path == "/busybox_before").count();
    let (end, key) = (Instant::now() + DEADLINE, id_key(&ground.id).unwrap());
    while observing.running.shared.maps.container(&key).unwrap().is_none_or(|state| state.listed == 0) {
        assert!(Instant::now() < end, "never listed, {} told", told());
        let before = told();
        observing.running.look().unwrap();
        assert!(told() - before <= 32, "{} at once", told() - before);
    }
    assert_eq!(told(), THERE);
    inside.sh("rm /busybox_noise /busybox_other");
    observing.stop();
}
