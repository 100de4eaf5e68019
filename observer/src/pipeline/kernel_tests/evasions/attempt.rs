//! One way tried: under Audit, under Kill, and what the two say of it held against each other.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
    sync::{Arc, LazyLock},
};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use zastava_crds::wire::event::Killed;

use super::{
    super::{
        ground::{Ground, Inside, Observing},
        kept::{Drift, Kept},
    },
    EVASIONS, Evasion,
};

/// A static program that executes in ways which a shell has not: `ZASTAVA_ODD` names one, or it is compiled.
static ODD: LazyLock<Option<Vec<u8>>> = LazyLock::new(|| {
    if let Some(made) = std::env::var_os("ZASTAVA_ODD") {
        return fs::read(made).ok();
    }
    let folder = tempfile::tempdir().ok()?;
    let made = folder.path().join("odd");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/workload/odd.c");
    let status = Command::new("cc").args(["-static", "-O2", "-o"]).arg(&made).arg(source).status().ok()?;
    status.success().then(|| fs::read(made).ok()).flatten()
});

/// What the image has besides busybox.
fn furnish(ground: &Ground, odd: &[u8]) {
    let lower = ground.folder.path().join("lower");
    let programs = ["odd", "other", "other_a", "other_k", "victim_a", "victim_k"];
    for name in programs {
        let to = lower.join("bin").join(name);
        fs::write(&to, odd).unwrap();
        if name == "other" {
            // The same program with another content, and of the same size.
            let mut other = odd.to_vec();
            *other.last_mut().unwrap() ^= 1;
            fs::write(&to, other).unwrap();
        }
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(lower.join("bin/script"), "#!/bin/sh\nexec /bin/odd say ran\n").unwrap();
    fs::set_permissions(lower.join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(lower.join("bin/busybox"), lower.join("bin/printf")).unwrap();
    for name in ["ln", "mv", "unshare", "pivot_root", "umount", "echo"] {
        symlink("busybox", lower.join("bin").join(name)).unwrap();
    }
    fs::create_dir(lower.join("allowed")).unwrap();
}

struct Attempt<'a> {
    observing: &'a Observing,
    store: &'a Kept,
    inside: Inside,
    told: usize,
    marks: usize,
}

impl Attempt<'_> {
    /// Paths that were told since this was asked last. Others' containers may never be at rest, so two files are
    /// executed last, one for each ring, and waited for.
    fn fresh(&mut self) -> BTreeSet<String> {
        self.marks += 1;
        let marks = [format!("/busybox_mark{}", self.marks), format!("/data/busybox_mark{}", self.marks)];
        for mark in &marks {
            self.inside.sh(&format!("cp /bin/busybox {mark}; {mark} true"));
        }
        for mark in &marks {
            self.store.drift(mark);
        }
        let paths = self.store.paths();
        let fresh = paths[self.told..].iter().filter(|path| !path.contains("busybox_mark")).cloned().collect();
        self.told = paths.len();
        fresh
    }

    fn rules(&self, mode: &str) {
        let kill = ["New", "CopiedUp", "Foreign", "Unnamed"];
        let drift = json!({"action": "Kill", "kill": kill, "allow": ["/allowed"]});
        let set = json!({"hash": mode, "namespaces": {"shop": {}}, "policies": [{
            "policy": {"name": "p", "uid": "u", "hash": "h"}, "mode": mode, "drift": drift, "libraries": "Off",
        }]});
        self.observing.running.shared.register.set_rules(&serde_json::from_value(set).unwrap());
    }

    fn round(&mut self, one: &Evasion, mode: &str) -> Option<Drift> {
        self.rules(mode);
        let n = if mode == "Audit" { "a" } else { "k" };
        let killed = one.told.map_or(Killed::No, |(_, _, _, killed)| killed);
        let ends = mode == "Enforce" && killed != Killed::No;
        let (act, seconds) = if ends && killed == Killed::Late { ("stay", 60) } else { ("say ran", 0) };
        assert_eq!(self.inside.sh(&format!("n={n}; DO='{act}'; SLEEP={seconds}")).0, 0);
        let twin = self.inside.sh(one.twin);
        assert_eq!(twin, (0, "ran\n".to_owned()), "the clean twin under {mode}");
        assert_eq!(self.fresh(), BTreeSet::new(), "the clean twin under {mode}");
        let (code, printed) = self.inside.sh(one.act);
        if ends {
            assert_eq!((code, printed.contains("ran")), (137, false), "{printed}");
        } else {
            assert_eq!((code, printed.as_str()), (0, "ran\n"), "under {mode}");
        }
        let subject = one.told.map(|(path, ..)| path.replace("$n", n));
        assert_eq!(self.fresh(), subject.iter().cloned().collect(), "under {mode}");
        subject.map(|path| self.store.drift(&path))
    }
}

pub fn attempt(name: &str) {
    let one = EVASIONS.iter().find(|one| one.name == name).unwrap();
    let Some(ground) = Ground::of_id(hex::encode(Sha256::digest(name))) else { return };
    let Some(odd) = &*ODD else {
        println!("SKIPPED: a C compiler that links statically is needed");
        return;
    };
    if one.act.contains("ld-linux") && !ground.add_loader() {
        return;
    }
    furnish(&ground, odd);
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    let register = observing.running.shared.register.clone();
    register.listed(vec![ground.told(0)]);
    let inside = ground.container();
    register.seen(ground.told(inside.child.id()));
    let mut attempt = Attempt { observing: &observing, store: &store, inside, told: 0, marks: 0 };
    attempt.rules("Audit");
    attempt.fresh();
    let (audit, kill) = (attempt.round(one, "Audit"), attempt.round(one, "Enforce"));
    if let (Some(audit), Some(kill), Some((_, class, severity, killed))) = (audit, kill, one.told) {
        assert_eq!((audit.class, audit.severity, audit.killed), (class, severity, Killed::No), "{audit:?}");
        assert_eq!((kill.class, kill.severity, kill.killed), (class, severity, killed), "{kill:?}");
        assert_eq!(audit.would_kill, kill.killed != Killed::No, "Audit tells what Kill does");
        assert!(!kill.would_kill);
    }
    drop(attempt);
    observing.stop();
}
