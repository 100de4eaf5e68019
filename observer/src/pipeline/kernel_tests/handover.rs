use std::sync::Arc;

use serde_json::json;
use zastava_crds::wire::event::DriftClass;

use super::ground::{Ground, Kept};

#[test]
fn a_container_that_drifts_and_ends_while_no_agent_runs_gives_its_finding() {
    let Some(ground) = Ground::new('c') else { return };
    let store = Arc::new(Kept::default());
    let audit = json!({"action": "Audit"});
    let observing = ground.observe(&store);
    observing.running.shared.register.listed(vec![ground.told(0)]);
    observing.rules("1", "Audit", &audit);
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    observing.hand_over();
    observing.stop();

    assert_eq!(inside.sh("cp /bin/busybox /busybox_alone; /busybox_alone echo ran"), (0, "ran\n".into()));
    drop(inside);
    // The runtime has no word of it any more.
    let observing = ground.observe(&store);
    observing.rules("1", "Audit", &audit);
    observing.running.shared.register.listed(Vec::new());
    assert_eq!(store.drift("/busybox_alone").class, DriftClass::New);
    let accounting = observing.at_rest();
    assert_eq!(accounting.stored, u64::try_from(store.paths().len()).unwrap());
    observing.stop();
}
