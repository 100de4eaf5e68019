use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use serde_json::json;
use zastava_crds::wire::event::{DriftClass, EventDetail, Killed, Process, RuntimeEvent};

use super::ground::{DEADLINE, Ground, Kept, Observing};
use crate::probe::record::MAX_ARGS;

/// Bytes of arguments that the probe keeps.
const MAX_BYTES: usize = 4096;

/// Observed and told of before it runs.
fn observe(ground: &Ground, store: &Arc<Kept>, mode: &str) -> Observing {
    let observing = ground.observe(store);
    observing.running.shared.register.listed(vec![ground.told(0)]);
    observing.rules("1", mode, &json!({"action": "Kill"}));
    observing
}

/// A file that only the container's own layer has.
fn put(ground: &Ground, name: &str, bytes: &[u8]) {
    let path = ground.folder.path().join("work/upper").join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn process_of(store: &Kept, path: &str) -> (RuntimeEvent, Process) {
    store.drift(path);
    let events = store.events();
    let found = events.into_iter().find_map(|(_, event)| match &event.detail {
        EventDetail::Drift { process, file, .. } if file.path == path => Some((event.clone(), process.clone())),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_process_of_other_user_and_pid_namespaces_is_its_containers() {
    let Some(ground) = Ground::of("c1") else { return };
    let store = Arc::new(Kept::default());
    let observing = observe(&ground, &store, "Audit");
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    inside.sh("cp /bin/busybox /busybox_user; cp /bin/busybox /busybox_mounts; cp /bin/busybox /busybox_killed");
    // It calls itself the first process and root; neither is true outside.
    let pids = inside.sh("/bin/busybox unshare -U -p -f /busybox_user sh -c 'echo $$; id -u'");
    assert_eq!(pids.1.lines().next(), Some("1"), "{pids:?}");
    let (event, process) = process_of(&store, "/busybox_user");
    assert_eq!(event.container, ground.told(0).reference);
    assert!(process.pid > 1 && process.ppid > 1, "{process:?}");
    assert_eq!(process.uid, 0, "as the node numbers it: {process:?}");
    assert_eq!(inside.sh("/bin/busybox unshare -U -m -p -f /busybox_mounts true").0, 0);
    assert_eq!(store.drift("/busybox_mounts").class, DriftClass::New);
    observing.rules("2", "Enforce", &json!({"action": "Kill"}));
    let killed = inside.sh("/bin/busybox unshare -U -p -f /busybox_killed echo ran");
    assert_eq!(killed.1, "");
    assert_eq!(store.drift("/busybox_killed").killed, Killed::Before);
    observing.stop();
}

fn ticks() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec * 100 + now.tv_nsec / 10_000_000).unwrap()
}

/// Starts an innocent process of the node with this pid.
fn with_pid(pid: u32) -> Child {
    let end = Instant::now() + DEADLINE;
    loop {
        // Others may be faster: it is tried again.
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        if child.id() == pid {
            return child;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Instant::now() < end, "pid {pid} was never to be had");
    }
}

#[test]
fn a_pid_that_was_given_to_another_process_is_not_killed_late() {
    let Some(ground) = Ground::of("c2") else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    let mut inside = ground.container();
    inside.sh("printf '#!/bin/sh\\n:\\n' > /late.sh; chmod 755 /late.sh");
    // Not known yet: what runs waits, and is over when it is judged.
    let pid: u32 = inside.sh("/late.sh & echo $!; wait").1.trim().parse().unwrap();
    // Processes of one pid are told apart by when they started, in hundredths of a second: none has it sooner again.
    let over = ticks();
    while ticks() == over {
        std::thread::yield_now();
    }
    let mut innocent = with_pid(pid);
    observing.running.shared.register.listed(vec![ground.told(inside.child.id())]);
    observing.rules("1", "Enforce", &json!({"action": "Kill"}));
    let (event, process) = process_of(&store, "/late.sh");
    assert_eq!(process.pid, pid);
    assert!(matches!(event.detail, EventDetail::Drift { killed: Killed::No, .. }), "{event:?}");
    assert!(innocent.try_wait().unwrap().is_none(), "killed in another's place");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    observing.stop();
}

/// A static program for x86-64 whose second thread executes what the arguments say: clone, then execve(argv[1]).
const THREAD: &str = "4c8b6424104c8d6c2410b838000000bf000f0100488db42400c0ffff31d24531d24531c00f0585c07409b8220000000f05\
                      ebf7b83b0000004c89e74c89ee31d20f05b83c000000bf090000000f05";
/// A static program for i386: exit(42) through interrupt 0x80.
const EXIT_42: &str = "b801000000bb2a000000cd80";

/// An executable of one segment that holds this code.
fn elf(code: &str, wide: bool) -> Vec<u8> {
    let code = hex::decode(code).unwrap();
    let (header, entry, base): (u16, u16, u32) = if wide { (64, 56, 0x40_0000) } else { (52, 32, 0x804_8000) };
    let start = u32::from(header + entry);
    let size = start + u32::try_from(code.len()).unwrap();
    let word = |value: u32| if wide { u64::from(value).to_le_bytes().to_vec() } else { value.to_le_bytes().to_vec() };
    let mut file = b"\x7fELF".to_vec();
    file.extend([if wide { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([2, 0, if wide { 62 } else { 3 }, 0, 1, 0, 0, 0]);
    file.extend([word(base + start), word(header.into()), word(0), vec![0; 4]].concat());
    for half in [header, entry, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // Loaded at `base` whole, readable and executable; where the flags stand depends on the width.
    let (load, flags) = (1_u32.to_le_bytes().to_vec(), 5_u32.to_le_bytes().to_vec());
    let place = [word(0), word(base), word(base), word(size), word(size)].concat();
    if wide {
        file.extend([load, flags, place, word(4096)].concat());
    } else {
        file.extend([load, place, flags, word(4096)].concat());
    }
    file.extend(code);
    file
}

#[test]
fn an_exec_by_another_thread_than_the_leader_is_the_processs() {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let Some(ground) = Ground::of("c3") else { return };
    put(&ground, "thread", &elf(THREAD, true));
    let store = Arc::new(Kept::default());
    let observing = observe(&ground, &store, "Audit");
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    inside.sh("cp /bin/busybox /busybox_thread; cp /bin/busybox /busybox_killed");
    let ran = inside.sh("/thread /busybox_thread sh -c 'echo $$' & echo $!; wait");
    let pids: Vec<&str> = ran.1.lines().collect();
    assert!(pids.len() == 2 && pids[0] == pids[1], "the thread takes the leader's place: {ran:?}");
    let (_, process) = process_of(&store, "/busybox_thread");
    assert_eq!(process.pid.to_string(), pids[0]);
    assert_eq!(process.ppid, inside.child.id());
    observing.rules("2", "Enforce", &json!({"action": "Kill", "allow": ["/thread"]}));
    assert_eq!(inside.sh("/thread /busybox_killed echo ran"), (137, String::new()));
    assert_eq!(store.drift("/busybox_killed").killed, Killed::Before);
    observing.stop();
}

#[test]
fn a_32_bit_program_is_judged_as_any_other() {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let Some(ground) = Ground::of("c4") else { return };
    put(&ground, "exit_42", &elf(EXIT_42, false));
    put(&ground, "exit_killed", &elf(EXIT_42, false));
    let store = Arc::new(Kept::default());
    let observing = observe(&ground, &store, "Audit");
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    assert_eq!(inside.sh("/exit_42 argument").0, 42);
    let drift = store.drift("/exit_42");
    assert_eq!((drift.class, drift.would_kill, drift.hashed), (DriftClass::New, true, true));
    assert_eq!(process_of(&store, "/exit_42").1.args, ["/exit_42", "argument"]);
    observing.rules("2", "Enforce", &json!({"action": "Kill"}));
    assert_eq!(inside.sh("/exit_killed").0, 137);
    assert_eq!(store.drift("/exit_killed").killed, Killed::Before);
    observing.stop();
}

#[test]
fn arguments_of_any_length_and_bytes_are_told_within_bounds() {
    let Some(ground) = Ground::of("c5") else { return };
    let store = Arc::new(Kept::default());
    let observing = observe(&ground, &store, "Audit");
    let mut inside = ground.container();
    observing.running.shared.register.seen(ground.told(inside.child.id()));
    inside.sh("cp /bin/busybox /busybox_bytes; cp /bin/busybox /busybox_long; cp /bin/busybox /busybox_many");
    assert_eq!(inside.sh("/busybox_bytes true \"$(printf 'a\\377\\376b')\" '' last").0, 0);
    let (_, process) = process_of(&store, "/busybox_bytes");
    assert_eq!(process.args, ["/busybox_bytes", "true", "a\u{fffd}\u{fffd}b", "", "last"]);
    assert!(!process.args_truncated);
    // As long as one argument may be: 128 KiB.
    let long = "x=0123456789abcdef; i=0; while [ $i -lt 12 ]; do x=$x$x; i=$((i+1)); done";
    assert_eq!(inside.sh(&format!("{long}; /busybox_long true $x")).0, 0);
    let many = "x='a a a a a a a a'; i=0; while [ $i -lt 10 ]; do x=\"$x $x\"; i=$((i+1)); done";
    assert_eq!(inside.sh(&format!("{many}; /busybox_many true $x")).0, 0);
    for path in ["/busybox_long", "/busybox_many"] {
        let (_, process) = process_of(&store, path);
        assert!(process.args_truncated, "{path}");
        assert_eq!(process.args[..2], [path, "true"], "{path}");
        assert!(process.args.len() <= MAX_ARGS, "{path}");
        assert!(process.args.iter().map(String::len).sum::<usize>() <= MAX_BYTES, "{path}");
    }
    // Containers of others may run on this machine.
    let dropped = observing.at_rest().dropped;
    assert!(dropped.keys().all(|reason| reason == "pending_expired"), "{dropped:?}");
    observing.stop();
}

#[test]
fn a_container_that_lived_50_ms_is_known_by_what_the_kernel_kept() {
    let Some(ground) = Ground::of("c6") else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    observing.running.shared.register.listed(Vec::new());
    observing.rules("1", "Audit", &json!({"action": "Kill"}));
    // Nobody knows it while it runs, and nothing of it is left when somebody does.
    ground.runs_once("cp /bin/busybox /busybox_short; /busybox_short true");
    assert_eq!(store.paths(), Vec::<String>::new(), "never told on a guess");
    observing.running.shared.register.seen(ground.told(0));
    let (event, process) = process_of(&store, "/busybox_short");
    assert_eq!(event.container, ground.told(0).reference);
    assert_eq!(process.args, ["/busybox_short", "true"]);
    let drift = store.drift("/busybox_short");
    assert_eq!((drift.class, drift.killed, drift.would_kill), (DriftClass::New, Killed::No, true));
    observing.stop();
}
