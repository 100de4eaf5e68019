use std::{
    process::{Command, Stdio},
    sync::Arc,
};

use super::ground::{Ground, Kept, Observing, busybox};
use crate::probe::maps::id_key;

/// Runs a program of the node in this cgroup, in a mount namespace of its own as a container's are.
fn runs_in(ground: &Ground, cgroup: &str) {
    let enter = format!(
        "{} exec unshare --mount --propagation private {} true",
        ground.join_named(cgroup),
        busybox().unwrap().display()
    );
    let status = Command::new("sh").args(["-ec", &enter]).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{cgroup}: {status}");
}

/// Whether the kernel took something for this container's.
fn is_containers(observing: &Observing, id: &str) -> bool {
    observing.running.shared.maps.container(&id_key(id).unwrap()).unwrap().is_some()
}

fn hex(number: usize) -> String {
    format!("{number:064x}")
}

#[test]
fn a_container_is_found_by_every_name_that_a_runtime_gives_its_cgroup() {
    let Some(ground) = Ground::of("d1") else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    let pod =
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f6e1a52_9c1b_4b3e_8f8e_0b1f7d2a9c11.slice";
    let names = [
        format!("{pod}/cri-containerd-ID.scope"),
        format!("{pod}/crio-ID.scope"),
        format!("{pod}/crio-ID.scope/container"),
        format!("{pod}/docker-ID.scope"),
        format!("{pod}/libpod-ID.scope"),
        // The cgroupfs driver, and containerd's driver told otherwise than the kubelet's.
        "kubepods/burstable/pod0f6e1a52-9c1b-4b3e-8f8e-0b1f7d2a9c11/ID".to_owned(),
        "kubepods/pod9ac62f01d4d5c9fd3fc0c7e4b4c3b2d1/ID".to_owned(),
        "kubepods/burstable/pod0f6e1a52-9c1b-4b3e-8f8e-0b1f7d2a9c11/crio-ID".to_owned(),
        "system.slice/kubepods-burstable-pod0f6e1a52.slice:cri-containerd:ID".to_owned(),
        "docker/ID/init.scope".to_owned(),
    ];
    for (number, name) in names.iter().enumerate() {
        let id = hex(number + 0xa0);
        runs_in(&ground, &name.replace("ID", &id));
        assert!(is_containers(&observing, &id), "{name}");
    }
    let others = [
        "kubepods/pod0f6e1a52/crio-conmon-ID",
        "system.slice/crio-conmon-ID.scope",
        "machine.slice/libpod-conmon-ID.scope",
        "system.slice/app0ID.service",
        "system.slice/xID",
    ];
    for (number, name) in others.iter().enumerate() {
        let id = hex(number + 0xb0);
        runs_in(&ground, &name.replace("ID", &id));
        assert!(!is_containers(&observing, &id), "{name}");
    }
    observing.stop();
}

#[test]
fn what_a_container_nests_is_its_own_however_deep() {
    let Some(ground) = Ground::of("d2") else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    let (outer, inner, monitored) = (hex(0xc0), hex(0xc1), hex(0xc2));
    // As Docker in a pod does, and as a workload does that would like to be another's or nobody's.
    runs_in(&ground, &format!("kubepods/podx/{outer}/docker/{inner}"));
    assert_eq!((is_containers(&observing, &outer), is_containers(&observing, &inner)), (true, false));
    runs_in(&ground, &format!("kubepods/podx/{}/a/b/crio-{inner}.scope/container", hex(0xc3)));
    assert_eq!((is_containers(&observing, &hex(0xc3)), is_containers(&observing, &inner)), (true, false));
    // A monitor's name below a container's is no way out of it.
    runs_in(&ground, &format!("kubepods/podx/crio-{monitored}.scope/crio-conmon-{inner}.scope"));
    assert_eq!((is_containers(&observing, &monitored), is_containers(&observing, &inner)), (true, false));
    let deep = hex(0xc4);
    runs_in(&ground, &format!("kubepods/podx/{deep}{}", "/n".repeat(60)));
    assert!(is_containers(&observing, &deep));
    observing.stop();
}
