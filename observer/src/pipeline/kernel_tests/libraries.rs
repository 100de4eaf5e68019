use std::{sync::Arc, time::Instant};

use serde_json::json;
use zastava_crds::wire::event::{DriftClass, EventDetail, Killed, RuntimeEvent, Severity};

use super::{
    super::libraries::Fate,
    ground::{DEADLINE, Ground, Kept, LIBRARY, LOADER, Observing},
};

/// Waits until mappings are watched: something of the image was seen.
fn watched(observing: &Observing, mut execute: impl FnMut()) {
    let end = Instant::now() + DEADLINE;
    while observing.running.shared.mappings.count(Fate::Filtered) == 0 {
        assert!(Instant::now() < end, "no mapping was seen");
        execute();
    }
}

fn facts(event: &RuntimeEvent) -> (DriftClass, Severity, bool, Killed, bool) {
    let EventDetail::Library { class, payload, killed, would_kill, .. } = &event.detail else { panic!("no library") };
    (*class, event.severity, *payload, *killed, *would_kill)
}

#[test]
fn what_is_loaded_and_is_not_the_images_is_told_and_what_a_loader_runs_is_killed() {
    let Some(ground) = Ground::new('8') else { return };
    if !ground.add_loader() {
        return;
    }
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    observing.running.shared.register.listed(vec![ground.told(0)]);
    let drift = json!({"action": "Kill", "kill": ["New", "Foreign"], "allow": ["/allowed"]});
    observing.rules_with("1", "Audit", &drift, "Audit");
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    watched(&observing, || assert_eq!(inside.sh("/bin/dynamic"), (0, String::new())));

    // It lives until it was looked at: the path of one that is gone can't be told to be its own, and allows nothing.
    let lives = "LD_LIBRARY_PATH=/allowed /bin/dynamic_sleep 60 </dev/null >/dev/null 2>&1 &";
    assert_eq!(inside.sh(&format!("mkdir -p /allowed; cp {LIBRARY} /allowed; {lives}")).0, 0);
    for folder in ["/evil", "/data/evil"] {
        let load = format!("mkdir -p {folder}; cp {LIBRARY} {folder}; LD_LIBRARY_PATH={folder} /bin/dynamic");
        assert_eq!(inside.sh(&load).0, 0);
    }
    assert_eq!(inside.sh(&format!("cp /bin/dynamic /payload; {LOADER} /payload")).0, 0);
    assert_eq!(inside.sh(&format!("cp /bin/dynamic /data/payload; cd /data; {LOADER} ./payload; cd /")).0, 0);
    // The image's own, though it is loaded by something else than its loader's path.
    assert_eq!(inside.sh(&format!("{LOADER} /bin/dynamic")).0, 0);
    assert_eq!(inside.sh(&format!("chmod 700 {LIBRARY}; /bin/dynamic")).0, 0);

    let new = store.library("/evil/libc.so.6");
    assert_eq!(facts(&new), (DriftClass::New, Severity::Medium, false, Killed::No, false));
    assert!(new.detail.file().is_some_and(|file| file.sha256.is_some()));
    assert_eq!(facts(&store.library("/data/evil/libc.so.6")).0, DriftClass::Foreign);
    let payload = facts(&store.library("/payload"));
    assert_eq!(payload, (DriftClass::New, Severity::Medium, true, Killed::No, true));
    assert_eq!(facts(&store.library("/data/payload")), (DriftClass::Foreign, Severity::Low, true, Killed::No, true));
    let copied = facts(&store.library(LIBRARY));
    assert_eq!((copied.0, copied.1), (DriftClass::CopiedUp, Severity::Info), "only its mode was changed");

    // Its name lies behind more arguments than the record of its exec holds: only the mapping tells.
    observing.rules_with("2", "Enforce", &drift, "Audit");
    let late = "cp /bin/dynamic_sleep /late; long=$(printf '%05000d' 0)";
    assert_eq!(inside.sh(&format!("{late}; {LOADER} --library-path $long:/lib /late 60")).0, 137);
    assert_eq!(facts(&store.library("/late")).3, Killed::Late);
    let told: Vec<RuntimeEvent> = store.events().into_iter().map(|(_, event)| event).collect();
    let libraries = told.iter().filter(|event| matches!(event.detail, EventDetail::Library { .. }));
    let paths: Vec<&str> = libraries.filter_map(|event| event.detail.file()).map(|file| file.path.as_str()).collect();
    assert!(!paths.iter().any(|path| path.starts_with("/allowed") || *path == "/bin/dynamic"), "{paths:?}");
    observing.stop();
}
