use std::sync::Arc;

use serde_json::json;
use zastava_crds::wire::event::{DriftClass, Killed, Severity};

use super::ground::{Ground, Kept};
use crate::probe::maps::id_key;

#[test]
fn every_class_is_told_and_killed_as_it_should_be() {
    let Some(ground) = Ground::new('a') else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    assert!(!observing.adopted);
    let register = observing.running.shared.register.clone();
    // Told before it runs, as CRI's CREATED does.
    register.listed(vec![ground.told(0)]);
    observing.rules("1", "Audit", &json!({"action": "Kill", "kill": ["New", "Foreign", "Unnamed", "CopiedUp"]}));
    let mut inside = ground.container();
    register.seen(ground.told(inside.child.id()));
    let state = observing.running.shared.maps.container(&id_key(&ground.id).unwrap()).unwrap().unwrap();
    assert_eq!((state.armed, state.overlay), (1, 1), "armed by its first exec");

    assert_eq!(inside.sh("/bin/busybox echo image"), (0, "image\n".into()));
    assert_eq!(inside.sh("cp /bin/busybox /busybox_new && /busybox_new echo new"), (0, "new\n".into()));
    assert_eq!(inside.sh("chmod 700 /bin/busybox_chmod && /bin/busybox_chmod true").0, 0);
    assert_eq!(inside.sh("echo x >> /bin/busybox_rewritten && /bin/busybox_rewritten true").0, 0);
    assert_eq!(inside.sh("cp /bin/busybox /data/busybox_foreign && /data/busybox_foreign true").0, 0);
    assert_eq!(inside.sh("cp /bin/busybox /busybox_gone; exec 3</busybox_gone; rm /busybox_gone").0, 0);
    inside.sh("/proc/self/fd/3 true");
    inside.sh("printf '#!/bin/sh\\nexit 7\\n' > /script.sh; chmod 755 /script.sh");
    assert_eq!(inside.sh("cd /tmp; ../script.sh; x=$?; cd /; ( exit $x )").0, 7);

    let new = store.drift("/busybox_new");
    assert_eq!((new.class, new.severity, new.killed), (DriftClass::New, Severity::High, Killed::No));
    assert!(new.would_kill && new.hashed);
    let chmod = store.drift("/bin/busybox_chmod");
    assert_eq!(
        (chmod.class, chmod.severity, chmod.would_kill),
        (DriftClass::CopiedUp, Severity::Low, false),
        "{chmod:?}"
    );
    let rewritten = store.drift("/bin/busybox_rewritten");
    assert_eq!(
        (rewritten.class, rewritten.severity, rewritten.would_kill),
        (DriftClass::CopiedUp, Severity::High, true)
    );
    let foreign = store.drift("/data/busybox_foreign");
    assert_eq!((foreign.class, foreign.severity), (DriftClass::Foreign, Severity::Medium));
    let gone = store.drift("/busybox_gone");
    assert_eq!((gone.class, gone.severity), (DriftClass::Unnamed, Severity::Critical));
    assert!(gone.file.links == 0);
    let script = store.drift("/script.sh");
    assert_eq!((script.class, script.interpreter.as_deref()), (DriftClass::New, Some("/bin/busybox")));

    // A chroot into a volume changes nothing.
    inside.sh("mkdir -p /data/root/bin; cp /bin/busybox /data/root/bin/busybox; chroot /data/root /bin/busybox true");
    assert_eq!(store.drift("/data/root/bin/busybox").class, DriftClass::Foreign);
    assert!(!store.paths().iter().any(|path| path == "/bin/cp"), "ordinary work is no finding");

    observing.rules("2", "Enforce", &json!({"action": "Kill", "kill": ["New", "CopiedUp"], "allow": ["/tools"]}));
    assert_eq!(inside.sh("cp /bin/busybox /busybox_killed; /busybox_killed echo ran"), (137, String::new()));
    assert_eq!(store.drift("/busybox_killed").killed, Killed::Before);
    assert_eq!(
        inside.sh("mkdir /tools; cp /bin/busybox /tools/busybox_allowed; /tools/busybox_allowed echo ran").1,
        "ran\n"
    );
    assert_eq!(inside.sh("/bin/busybox echo image"), (0, "image\n".into()), "the image's own is spared");
    // Late: the script runs until its name is resolved, and is killed in its sleep.
    assert_eq!(
        inside.sh("printf '#!/bin/sh\\n/bin/busybox sleep 30\\n' > /late.sh; chmod 755 /late.sh; /late.sh").0,
        137
    );
    assert_eq!(store.drift("/late.sh").killed, Killed::Late);
    assert!(!store.paths().iter().any(|path| path == "/tools/busybox_allowed"));

    let accounting = observing.at_rest();
    assert!(accounting.dropped.keys().all(|reason| reason == "pending_expired"), "{accounting:?}");
    assert_eq!(accounting.stored, u64::try_from(store.paths().len()).unwrap());
    observing.stop();

    // Nobody is there: the kernel goes on, kills, and keeps.
    assert_eq!(inside.sh("cp /bin/busybox /busybox_alone; /busybox_alone echo ran"), (137, String::new()));
    let before = store.paths().len();
    let observing = ground.observe(&store);
    assert!(observing.adopted);
    observing.running.shared.register.listed(vec![ground.told(inside.child.id())]);
    observing.rules("2", "Enforce", &json!({"action": "Kill", "kill": ["New", "CopiedUp"], "allow": ["/tools"]}));
    assert_eq!(store.drift("/busybox_alone").killed, Killed::Before);
    let accounting = observing.at_rest();
    assert_eq!(accounting.stored, u64::try_from(store.paths().len()).unwrap());
    assert_eq!(store.paths().len(), before + 1, "nothing is told twice");
    // As if another version were in charge: it is replaced, and all that is known stays.
    observing.running.shared.maps.set_config(|config| config.build = 1).unwrap();
    observing.stop();
    let observing = ground.observe(&store);
    assert!(!observing.adopted);
    assert_eq!(inside.sh("cp /bin/busybox /busybox_last; /busybox_last echo ran"), (137, String::new()));
    observing.running.shared.register.listed(vec![ground.told(inside.child.id())]);
    observing.rules("2", "Enforce", &json!({"action": "Kill", "kill": ["New", "CopiedUp"], "allow": ["/tools"]}));
    assert_eq!(store.drift("/busybox_last").killed, Killed::Before);
    let again = observing.at_rest();
    assert!(again.executed > accounting.executed && again.stored == accounting.stored + 1);
    observing.stop();
}
