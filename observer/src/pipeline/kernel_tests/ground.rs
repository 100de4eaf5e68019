//! A container made by hand, without a runtime, and an observer of it. Needs root.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::{
    event::ContainerRef,
    sync::{Accounting, RuleSet},
};

use super::super::{ObserverConfig, Store, identity::Identity, running::Running};
pub use super::kept::Kept;
use crate::{
    containers::Container,
    probe::{Pins, Settings, attach},
};

/// Where this machine's programs have their loader and their C library.
pub const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
pub const LIBRARY: &str = "/lib/x86_64-linux-gnu/libc.so.6";
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A bpffs, cgroups and layers of its own, all taken away at the end.
pub struct Ground {
    pub folder: tempfile::TempDir,
    bpffs: PathBuf,
    cgroups: Vec<PathBuf>,
    pub id: String,
    _turn: Option<Turn>,
}

/// One test at a time has containers: the probe sees those of all, and none would be at rest while others run.
static TURNS: Mutex<()> = Mutex::new(());

thread_local! {
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

struct Turn(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Turn {
    /// `None` for a test that has its turn already.
    fn take() -> Option<Self> {
        let first = !HAS_TURN.replace(true);
        first.then(|| Self(TURNS.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HAS_TURN.set(false);
    }
}

pub fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// The static busybox of this machine.
pub fn busybox() -> Option<&'static Path> {
    ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists())
}

impl Ground {
    /// The container's cgroup, as an OCI runtime is told it.
    pub fn cgroups_path(&self) -> String {
        let name = self.cgroups[0].file_name().unwrap().to_str().unwrap();
        format!("/{name}/{}", self.id)
    }

    fn layers(&self) -> String {
        let (folder, work) = (self.folder.path().display(), self.folder.path().join("work"));
        format!("lowerdir={folder}/lower,upperdir={0}/upper,workdir={0}/work", work.display())
    }

    /// Mounts the container's root, as a snapshotter would.
    pub fn mount_layers(&self) {
        let merged = self.folder.path().join("merged");
        run("mount", &["-t", "overlay", "overlay", "-o", &self.layers(), merged.to_str().unwrap()]);
    }

    /// Of the container whose id is this digit again and again. `None`, with a word why, where it can't be.
    pub fn new(id: char) -> Option<Self> {
        Self::of(&id.to_string().repeat(2))
    }

    /// The same with two digits again and again: each test has an id of its own, and what another left behind is none of its business.
    pub fn of(id: &str) -> Option<Self> {
        Self::of_id(id.repeat(32))
    }

    /// The same with a whole id of one's own.
    pub fn of_id(id: String) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/sys/kernel/btf/vmlinux").exists() {
            println!("SKIPPED: the probe can be tried by root on a kernel with BTF only");
            return None;
        }
        let Some(busybox) = busybox() else {
            println!("SKIPPED: a static busybox is needed for the container");
            return None;
        };
        let turn = Turn::take();
        let folder = tempfile::tempdir().unwrap();
        let (bpffs, tracing) = (folder.path().join("bpf"), folder.path().join("tracing"));
        // An overlay can't be the upper layer of another: a tmpfs can.
        for (kind, point) in [("bpf", &bpffs), ("tracefs", &tracing), ("tmpfs", &folder.path().join("work"))] {
            fs::create_dir(point).unwrap();
            run("mount", &["-t", kind, kind, point.to_str().unwrap()]);
        }
        let lower = folder.path().join("lower");
        for name in ["bin", "data", "proc", "old", "tmp", "dev"] {
            fs::create_dir_all(lower.join(name)).unwrap();
        }
        // What a shell runs in the background reads from it; an empty file does.
        fs::write(lower.join("dev/null"), b"").unwrap();
        for name in ["bin/busybox", "bin/busybox_chmod", "bin/busybox_rewritten"] {
            fs::copy(busybox, lower.join(name)).unwrap();
        }
        for name in ["sh", "cp", "chmod", "rm", "true", "mkdir", "mount", "chroot", "cat"] {
            symlink("busybox", lower.join("bin").join(name)).unwrap();
        }
        for name in ["work/upper", "work/work", "merged"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let bases: &[&str] =
            if unified { &["/sys/fs/cgroup"] } else { &["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"] };
        let name = format!("zastava-test-{}-{}", std::process::id(), &id[..8]);
        let cgroups: Vec<PathBuf> = bases.iter().map(|base| Path::new(base).join(&name)).collect();
        for cgroup in &cgroups {
            fs::create_dir_all(cgroup.join(&id)).unwrap();
        }
        Some(Self { folder, bpffs, cgroups, id, _turn: turn })
    }

    /// Adds a dynamic loader, a library and a program that needs both; whether this machine has them.
    pub fn add_loader(&self) -> bool {
        let lower = self.folder.path().join("lower");
        let files = [LOADER, LIBRARY].map(|path| (path, path));
        files.into_iter().chain([("/bin/true", "/bin/dynamic"), ("/bin/sleep", "/bin/dynamic_sleep")]).all(
            |(from, to)| {
                let to = lower.join(&to[1..]);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                let there = fs::copy(from, to).is_ok();
                if !there {
                    println!("SKIPPED: {from} is not there");
                }
                there
            },
        )
    }

    /// What a shell does to become a process of the container's cgroup.
    pub fn join(&self) -> String {
        self.join_named(&self.id)
    }

    /// The same for a cgroup of any name, which is made.
    pub fn join_named(&self, name: &str) -> String {
        let procs = |cgroup: &PathBuf| {
            let named = cgroup.join(name);
            fs::create_dir_all(&named).unwrap();
            format!("echo $$ > {}/cgroup.procs; ", named.display())
        };
        self.cgroups.iter().map(procs).collect()
    }

    /// Enters cgroup and mount namespace as a runtime would, and executes the container's own shell for `line`.
    fn enter(&self, line: &str) -> Command {
        let join = self.join();
        let folder = self.folder.path().display();
        let layers = self.layers();
        let setup = format!(
            "mount -t overlay overlay -o {layers} {folder}/merged && cd {folder}/merged && \
             mount -t proc proc proc && mount -t tmpfs tmpfs data && mount -t tmpfs tmpfs tmp && \
             pivot_root . old && exec chroot . /bin/busybox sh -c '{line}'"
        );
        let enter =
            format!("{join} exec unshare --mount --propagation private sh -c '{}'", setup.replace('\'', "'\\''"));
        let mut command = Command::new("sh");
        command.args(["-ec", &enter]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// A container that does this and ends.
    pub fn runs_once(&self, line: &str) {
        let status = self.enter(line).stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "{line}: {status}");
    }

    /// A container that reads commands.
    pub fn container(&self) -> Inside {
        let reads = "umount -l /old; while read -r line; do eval \"$line\"; echo \"=$?\"; done";
        let mut child = self.enter(reads).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut inside = Inside { child, input, output };
        assert_eq!(inside.sh("true"), (0, String::new()));
        inside
    }

    pub fn told(&self, pid: u32) -> Container {
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

    pub fn observe(&self, store: &Arc<Kept>) -> Observing {
        let mut config = ObserverConfig::new("node");
        config.bpffs = self.bpffs.join("v1");
        config.tracefs = vec![self.folder.path().join("tracing")];
        config.handover = Some(self.folder.path().join("containers.json"));
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
        for mount in [self.folder.path().join("work"), self.folder.path().join("tracing"), self.bpffs.clone()] {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
        let end = Instant::now() + DEADLINE;
        for cgroup in &self.cgroups {
            remove(cgroup, end);
        }
    }
}

/// A cgroup with those in it. What a container left running goes with it.
fn remove(cgroup: &Path, end: Instant) {
    for inner in fs::read_dir(cgroup).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if inner.is_dir() {
            remove(&inner, end);
        }
    }
    while fs::remove_dir(cgroup).is_err() && cgroup.exists() && Instant::now() < end {
        for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        std::thread::yield_now();
    }
}

/// The container's first process.
/// The rule set of one policy that denies these processes, and judges no drift.
pub fn denying(policy: &str, deny: &[&str]) -> RuleSet {
    let set = json!({"hash": policy, "namespaces": {"shop": {}}, "policies": [{
        "policy": {"name": policy, "uid": policy, "hash": "h"}, "mode": "Audit", "drift": {"action": "Off"},
        "libraries": "Off", "processes": {"deny": deny},
    }]});
    serde_json::from_value(set).unwrap()
}

pub struct Inside {
    pub child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Inside {
    /// Runs a line; its exit code and output.
    pub fn sh(&mut self, line: &str) -> (i32, String) {
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

pub struct Observing {
    pub running: Running,
    threads: Vec<JoinHandle<()>>,
    token: CancellationToken,
    pub adopted: bool,
}

impl Observing {
    pub fn rules(&self, hash: &str, mode: &str, drift: &serde_json::Value) {
        self.rules_with(hash, mode, drift, "Off");
    }

    pub fn rules_with(&self, hash: &str, mode: &str, drift: &serde_json::Value, libraries: &str) {
        let set = json!({"hash": hash, "namespaces": {"shop": {}}, "policies": [{
            "policy": {"name": "p", "uid": "u", "hash": "h"}, "mode": mode, "drift": drift, "libraries": libraries,
            "processes": {"deny": ["**/chroot"]},
        }]});
        self.running.shared.register.set_rules(&serde_json::from_value(set).unwrap());
    }

    /// One policy that denies these processes, and judges no drift.
    pub fn denies(&self, policy: &str, deny: &[&str]) {
        self.running.shared.register.set_rules(&denying(policy, deny));
    }

    pub fn at_rest(&self) -> Accounting {
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

    /// What an agent does at its end, and at every change.
    pub fn hand_over(&self) {
        self.running.handover.as_ref().unwrap().keep(&self.running.shared);
    }

    pub fn stop(self) {
        self.token.cancel();
        self.running.wakers.wake();
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}
