use std::{sync::Arc, time::Instant};

use serde_json::json;

use super::ground::{DEADLINE, Ground, Kept};

#[test]
fn in_a_storm_of_short_lived_processes_the_kernel_counts_what_the_probe_counts() {
    const STORM: u64 = 2000;
    let Some(ground) = Ground::new('9') else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    observing.running.shared.register.listed(vec![ground.told(0)]);
    observing.rules("1", "Audit", &json!({"action": "Audit"}));
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    let load = "j=0; while [ $j -lt 500 ]; do /busybox_storm true; j=$((j+1)); done";
    inside.sh(&format!("cp /bin/busybox /busybox_storm; for i in 1 2 3 4; do ( {load} ) & done; wait"));
    // Others execute on this machine as well: what is asked for is a moment at which both counts stand still.
    let end = Instant::now() + DEADLINE;
    loop {
        let compared = observing.running.look().unwrap().reference.expect("a count of the kernel's own");
        if compared.counted == compared.executed {
            assert!(compared.counted >= STORM, "{compared:?}");
            break;
        }
        assert!(Instant::now() < end, "{compared:?}");
    }
    let accounting = observing.at_rest();
    let told = store.events();
    let told = told.iter().filter(|(_, event)| event.detail.file().is_some_and(|file| file.path == "/busybox_storm"));
    let told: u64 = told.map(|(_, event)| event.combined.as_ref().map_or(1, |combined| combined.count)).sum();
    let lost = accounting.dropped.get("ring_full").copied().unwrap_or(0);
    assert_eq!(told + lost, STORM, "{accounting:?}");
    observing.stop();
}
