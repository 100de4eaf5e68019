//! A container made by the real runc, where one is at hand: `ZASTAVA_RUNC` names it. The emulated machine has it; on
//! this one the scenarios on a real cluster say the same.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use serde_json::json;
use zastava_crds::wire::event::{DriftClass, Killed};

use super::ground::{Ground, Kept, busybox, run};
use crate::probe::maps::id_key;

struct Runc<'a> {
    program: PathBuf,
    ground: &'a Ground,
}

impl Runc<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.ground.folder.path().join("runc")).args(arguments).stdin(Stdio::null());
        command
    }

    /// In the container, as `kubectl exec` and exec probes do.
    fn exec(&self, line: &[&str]) -> Output {
        self.command(&["exec", &self.ground.id]).args(line).output().unwrap()
    }
}

#[test]
fn what_the_runtime_itself_executes_is_no_drift_and_what_it_is_asked_to_is() {
    let Some(program) = std::env::var_os("ZASTAVA_RUNC").map(PathBuf::from) else {
        println!("SKIPPED: ZASTAVA_RUNC names no runc");
        return;
    };
    let Some(ground) = Ground::new('e') else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    let register = observing.running.shared.register.clone();
    register.listed(vec![ground.told(0)]);
    observing.rules("1", "Enforce", &json!({"action": "Kill"}));

    let runc = Runc { program, ground: &ground };
    let bundle = ground.folder.path();
    ground.mount_layers();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
            "args": ["/bin/busybox", "sleep", "1000"]},
        "root": {"path": "merged", "readonly": false},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}],
        // Such as a driver's, which runs a program of the node while the container is made.
        "hooks": {"createContainer": [{"path": busybox().unwrap().display().to_string(), "args": ["true"]}]},
        "linux": {"cgroupsPath": ground.cgroups_path(),
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]},
    });
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let status = runc.command(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &ground.id]);
    let status = { status }.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    let state: serde_json::Value =
        serde_json::from_slice(&runc.command(&["state", &ground.id]).output().unwrap().stdout).unwrap();
    register.seen(ground.told(u32::try_from(state["pid"].as_u64().unwrap()).unwrap()));
    let known = observing.running.shared.maps.container(&id_key(&ground.id).unwrap()).unwrap().unwrap();
    assert_eq!((known.armed, known.listed), (1, 1), "its first process is alone: nothing ran before");

    for _ in 0..3 {
        let ran = runc.exec(&["/bin/busybox", "echo", "ran"]);
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "ran\n", "{ran:?}");
    }
    observing.at_rest();
    assert_eq!(store.paths(), Vec::<String>::new(), "runc's own init, a hook and the image's programs are no drift");

    assert!(runc.exec(&["sh", "-c", "cp /bin/busybox /busybox_dropped"]).status.success());
    let dropped = runc.exec(&["/busybox_dropped", "echo", "ran"]);
    assert!(!dropped.status.success() && dropped.stdout.is_empty(), "{dropped:?}");
    let drift = store.drift("/busybox_dropped");
    assert_eq!((drift.class, drift.killed), (DriftClass::New, Killed::Before));

    run(
        runc.program.to_str().unwrap(),
        &["--root", bundle.join("runc").to_str().unwrap(), "delete", "--force", &ground.id],
    );
    run("umount", &["-l", bundle.join("merged").to_str().unwrap()]);
    observing.stop();
}
