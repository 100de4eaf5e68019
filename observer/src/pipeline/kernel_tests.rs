//! The whole way from a real kernel to a store: a container made by hand, without a runtime. Needs root.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::{
    event::{ContainerRef, DriftClass, EventDetail, ExecutedFile, Killed, RuntimeEvent, Severity},
    sync::Accounting,
};

use super::{Lane, ObserverConfig, Store, StoreError, identity::Identity, running::Running, self_test};
use crate::{
    containers::Container,
    probe::{Pins, Settings, attach, maps::id_key},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps events in memory, and lets a test wait for them.
#[derive(Default)]
struct Kept {
    events: Mutex<Vec<(Lane, RuntimeEvent)>>,
    came: Condvar,
}

impl Store for Kept {
    fn append(&self, lane: Lane, event: &RuntimeEvent) -> Result<(), StoreError> {
        self.events.lock().unwrap().push((lane, event.clone()));
        self.came.notify_all();
        Ok(())
    }
}

#[derive(Debug)]
struct Drift {
    class: DriftClass,
    severity: Severity,
    killed: Killed,
    would_kill: bool,
    hashed: bool,
    /// The whole file, for a failure's message.
    file: ExecutedFile,
    interpreter: Option<String>,
}

impl Kept {
    /// The drift event about this path.
    fn drift(&self, wanted: &str) -> Drift {
        let end = Instant::now() + DEADLINE;
        let mut events = self.events.lock().unwrap();
        loop {
            let found = events.iter().find_map(|(lane, event)| match &event.detail {
                EventDetail::Drift { class, file, killed, would_kill, .. } if file.path == wanted => {
                    assert_eq!(*lane, Lane::from(event.severity));
                    Some(Drift {
                        class: *class,
                        severity: event.severity,
                        killed: *killed,
                        would_kill: *would_kill,
                        hashed: file.sha256.is_some(),
                        file: file.clone(),
                        interpreter: file.interpreter.clone(),
                    })
                }
                _ => None,
            });
            if let Some(found) = found {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no drift of {wanted}; there is: {events:#?}");
            events = self.came.wait_timeout(events, left).unwrap().0;
        }
    }

    fn paths(&self) -> Vec<String> {
        let path = |event: &RuntimeEvent| match &event.detail {
            EventDetail::Drift { file, .. } | EventDetail::DeniedProcess { file, .. } => Some(file.path.clone()),
            EventDetail::Lost { .. } => None,
        };
        self.events.lock().unwrap().iter().filter_map(|(_, event)| path(event)).collect()
    }
}

/// A bpffs, cgroups and layers of its own, all taken away at the end.
struct Ground {
    folder: tempfile::TempDir,
    bpffs: PathBuf,
    cgroups: Vec<PathBuf>,
    id: String,
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

impl Ground {
    /// `None`, with a word why, where it can't be.
    fn new(id: char) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/sys/kernel/btf/vmlinux").exists() {
            println!("SKIPPED: the probe can be tried by root on a kernel with BTF only");
            return None;
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        let Some(busybox) = busybox else {
            println!("SKIPPED: a static busybox is needed for the container");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let bpffs = folder.path().join("bpf");
        fs::create_dir(&bpffs).unwrap();
        run("mount", &["-t", "bpf", "bpf", bpffs.to_str().unwrap()]);
        let lower = folder.path().join("lower");
        for name in ["bin", "data", "proc", "old", "tmp"] {
            fs::create_dir_all(lower.join(name)).unwrap();
        }
        for name in ["bin/busybox", "bin/busybox_chmod", "bin/busybox_rewritten"] {
            fs::copy(busybox, lower.join(name)).unwrap();
        }
        for name in ["sh", "cp", "chmod", "rm", "true", "mkdir", "mount", "chroot", "cat"] {
            symlink("busybox", lower.join("bin").join(name)).unwrap();
        }
        for name in ["upper", "work", "merged"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        // An overlay can't be the upper layer of another: a tmpfs can.
        run("mount", &["-t", "tmpfs", "tmpfs", folder.path().join("work").to_str().unwrap()]);
        for name in ["upper", "work"] {
            fs::create_dir(folder.path().join("work").join(name)).unwrap();
        }
        let id = id.to_string().repeat(64);
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let bases: &[&str] =
            if unified { &["/sys/fs/cgroup"] } else { &["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"] };
        let name = format!("zastava-test-{}-{}", std::process::id(), &id[..1]);
        let cgroups: Vec<PathBuf> = bases.iter().map(|base| Path::new(base).join(&name)).collect();
        for cgroup in &cgroups {
            fs::create_dir_all(cgroup.join(&id)).unwrap();
        }
        Some(Self { folder, bpffs, cgroups, id })
    }

    /// Enters cgroup and mount namespace as a runtime would, and reads commands.
    fn container(&self) -> Inside {
        let work = self.folder.path().join("work");
        let join: Vec<String> = self
            .cgroups
            .iter()
            .map(|cgroup| format!("echo $$ > {}/cgroup.procs; ", cgroup.join(&self.id).display()))
            .collect();
        let join = join.concat();
        let folder = self.folder.path().display();
        let layers =
            format!("lowerdir={folder}/lower,upperdir={}/upper,workdir={}/work", work.display(), work.display());
        let setup = format!(
            "mount -t overlay overlay -o {layers} {folder}/merged && cd {folder}/merged && \
             mount -t proc proc proc && mount -t tmpfs tmpfs data && mount -t tmpfs tmpfs tmp && \
             pivot_root . old && exec chroot . /bin/busybox sh -c \
             'umount -l /old; while read -r line; do eval \"$line\"; echo \"=$?\"; done'"
        );
        let enter =
            format!("{join} exec unshare --mount --propagation private sh -c '{}'", setup.replace('\'', "'\\''"));
        let mut child = Command::new("sh")
            .args(["-ec", &enter])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut inside = Inside { child, input, output };
        assert_eq!(inside.sh("true"), (0, String::new()));
        inside
    }

    fn told(&self, pid: u32) -> Container {
        Container {
            reference: ContainerRef {
                namespace: "shop".into(),
                pod: "web".into(),
                pod_uid: "uid".into(),
                container: "app".into(),
                container_id: self.id.clone(),
                image: Some("registry.example/shop/app:v1".into()),
                digests: Vec::new(),
            },
            labels: BTreeMap::new(),
            image_aliases: Vec::new(),
            handler: String::new(),
            pid,
            is_sandbox: false,
            running: pid != 0,
        }
    }

    fn observe(&self, store: &Arc<Kept>) -> Observing {
        let mut config = ObserverConfig::new("node");
        config.bpffs = self.bpffs.join("v1");
        // Containers of others may run on this machine: they are waited for, but not for long.
        config.pending_age = Duration::from_secs(2);
        let host_pid = std::process::id();
        let settings = Settings { proc: "/proc".into(), host_pid, heartbeat_expiry: Duration::from_mins(1) };
        let probe = attach(&Pins::new(&config.bpffs), &settings).unwrap();
        let adopted = probe.adopted;
        // The containers' first processes are this process's children: they are no self-tests.
        probe.maps.set_config(|config| config.agent = 0).unwrap();
        let identity = Identity::read("node", Path::new("/proc")).unwrap();
        let token = CancellationToken::new();
        let (running, threads) =
            Running::start(&config, &identity, &(store.clone() as Arc<dyn Store>), probe, &token).unwrap();
        running.shared.examiner.set_host(std::process::id());
        Observing { running, threads, token, adopted }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for mount in [self.folder.path().join("work"), self.bpffs.clone()] {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
        let end = Instant::now() + DEADLINE;
        for cgroup in &self.cgroups {
            let inner = cgroup.join(&self.id);
            // What the container left running goes with it.
            while fs::remove_dir(&inner).is_err() && inner.exists() && Instant::now() < end {
                for pid in fs::read_to_string(inner.join("cgroup.procs")).unwrap_or_default().lines() {
                    let _ = Command::new("kill").args(["-9", pid]).status();
                }
                std::thread::yield_now();
            }
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// The container's first process.
struct Inside {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Inside {
    /// Runs a line; its exit code and output.
    fn sh(&mut self, line: &str) -> (i32, String) {
        writeln!(self.input, "{line}").unwrap();
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the container ended: {printed}");
            match line.strip_prefix('=') {
                Some(code) => return (code.trim().parse().unwrap(), printed),
                None => printed.push_str(&line),
            }
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Observing {
    running: Running,
    threads: Vec<JoinHandle<()>>,
    token: CancellationToken,
    adopted: bool,
}

impl Observing {
    fn rules(&self, hash: &str, mode: &str, drift: &serde_json::Value) {
        let set = json!({"hash": hash, "namespaces": {"shop": {}}, "policies": [{
            "policy": {"name": "p", "uid": "u", "hash": "h"}, "mode": mode, "drift": drift, "libraries": "Off",
            "processes": {"deny": ["**/chroot"]},
        }]});
        self.running.shared.register.set_rules(&serde_json::from_value(set).unwrap());
    }

    fn at_rest(&self) -> Accounting {
        let end = Instant::now() + DEADLINE;
        loop {
            let accounting = self.running.look().unwrap().accounting;
            let sum = accounting.stored
                + accounting.filtered
                + accounting.foreign
                + accounting.pending
                + accounting.dropped.values().sum::<u64>();
            if accounting.pending == 0 && sum == accounting.executed {
                return accounting;
            }
            assert!(Instant::now() < end, "never at rest: {accounting:?}");
            std::thread::yield_now();
        }
    }

    fn stop(self) {
        self.token.cancel();
        self.running.wakers.wake();
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_self_test_comes_up_through_the_ring() {
    let Some(ground) = Ground::new('b') else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    let shared = observing.running.shared.clone();
    let command = ["/bin/true".into()];
    assert!(timeout(Duration::from_millis(300), self_test::run(&command, shared.self_test.subscribe())).await.is_err());
    shared.maps.set_config(|config| config.agent = std::process::id()).unwrap();
    let came = self_test::run(&command, shared.self_test.subscribe()).await;
    assert!(came, "{:?} {:?}", observing.running.look().unwrap(), shared.maps.config().unwrap());
    assert_eq!(observing.running.look().unwrap().accounting.stored, 0);
    observing.stop();
}

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
