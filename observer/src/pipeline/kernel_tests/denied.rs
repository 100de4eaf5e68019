use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use zastava_crds::wire::event::{EventDetail, RuntimeEvent, Severity};

use super::ground::{Ground, Kept, denying};

/// What an event says of a denied process: the rule, the policy, the file and its interpreter.
fn told(event: &RuntimeEvent) -> Option<(&str, &str, &str, Option<&str>)> {
    let EventDetail::DeniedProcess { rule, file, .. } = &event.detail else { return None };
    Some((rule, &event.policies[0].name, &file.path, file.interpreter.as_deref()))
}

#[test]
fn a_program_is_denied_by_its_file_by_the_name_given_and_by_what_its_script_names() {
    let Some(ground) = Ground::of("e2") else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    observing.running.shared.register.listed(vec![ground.told(0)]);
    observing.denies("p", &["/bin/rm", "/bin/cat"]);
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    inside.sh("/bin/rm -f /x");
    inside.sh("//bin/../bin/./rm -f /x");
    inside.sh("printf '#!/bin/cat\\n' > /data/script; chmod 755 /data/script; /data/script");
    // A link of another name and an applet as an argument leave the file alone to match.
    inside.sh("ln -s /bin/busybox /tmp/busybox_other; /tmp/busybox_other rm -f /x; /bin/busybox rm -f /x");
    observing.at_rest();
    let events = store.events();
    let seen: Vec<_> = events.iter().filter_map(|(_, event)| told(event)).collect();
    let link = ("/bin/rm", "p", "/bin/busybox", None);
    assert_eq!(seen[..2], [link, link], "{seen:?}");
    assert_eq!(seen[2..], [("/bin/cat", "p", "/data/script", Some("/bin/busybox"))], "{seen:?}");
    assert!(events.iter().all(|(_, event)| event.severity == Severity::High));

    observing.denies("file", &["/bin/busybox"]);
    inside.sh("/tmp/busybox_other true");
    observing.at_rest();
    let events = store.events();
    let by_file = |(_, event): &_| told(event) == Some(("/bin/busybox", "file", "/bin/busybox", None));
    assert!(events.iter().any(by_file), "{events:#?}");
    observing.stop();
}

#[test]
fn while_rules_change_each_exec_is_judged_by_the_old_or_the_new_ones() {
    const EXECS: u64 = 300;
    const PATIENCE: Duration = Duration::from_mins(1);
    let Some(ground) = Ground::of("e3") else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    let register = observing.running.shared.register.clone();
    register.listed(vec![ground.told(0)]);
    let sets = [denying("old", &["/bin/rm"]), denying("new", &["**/rm"])];
    register.set_rules(&sets[0]);
    let mut inside = ground.container();
    register.seen(ground.told(inside.child.id()));
    let over = AtomicBool::new(false);
    let changes = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut changes = 0;
            let end = Instant::now() + PATIENCE;
            while !over.load(Ordering::Relaxed) && Instant::now() < end {
                changes += 1;
                register.set_rules(&sets[changes % 2]);
                std::thread::yield_now();
            }
            changes
        });
        inside.sh(&format!("i=0; while [ $i -lt {EXECS} ]; do /bin/rm -f /x; i=$((i+1)); done"));
        over.store(true, Ordering::Relaxed);
        changing.join().unwrap()
    });
    observing.at_rest();
    let mut judged = [0, 0];
    for (_, event) in store.events() {
        let Some((rule, policy, ..)) = told(&event) else { continue };
        assert!(matches!((policy, rule), ("old", "/bin/rm") | ("new", "**/rm")), "{policy} {rule}");
        judged[usize::from(policy == "new")] += event.combined.as_ref().map_or(1, |combined| combined.count);
    }
    assert_eq!(judged[0] + judged[1], EXECS, "{judged:?} over {changes} changes");
    assert!(judged.iter().all(|count| *count > 0), "{judged:?} over {changes} changes");
    observing.stop();
}
