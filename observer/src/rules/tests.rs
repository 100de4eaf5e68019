use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use zastava_crds::wire::{
    event::{ContainerRef, DriftClass},
    sync::RuleSet,
};

use super::*;
use crate::{
    containers::Container,
    probe::{
        ProbeError,
        maps::{IdKey, KernelRules, TopKey, id_key, rule_flags},
    },
};

#[derive(Default)]
struct FakeKernel {
    rules: Mutex<BTreeMap<IdKey, KernelRules>>,
    tops: Mutex<BTreeSet<TopKey>>,
}

impl Kernel for FakeKernel {
    fn put(&self, id: &IdKey, rules: KernelRules) -> Result<(), ProbeError> {
        // A container's slot is filled before the container names it.
        assert!(rules.slot == 0 || self.tops.lock().unwrap().iter().any(|top| top.slot == rules.slot));
        self.rules.lock().unwrap().insert(*id, rules);
        Ok(())
    }
    fn remove(&self, id: &IdKey) -> Result<(), ProbeError> {
        self.rules.lock().unwrap().remove(id);
        Ok(())
    }
    fn ruled(&self) -> Result<Vec<(IdKey, KernelRules)>, ProbeError> {
        Ok(self.rules.lock().unwrap().iter().map(|(id, rules)| (*id, *rules)).collect())
    }
    fn put_top(&self, key: TopKey) -> Result<(), ProbeError> {
        self.tops.lock().unwrap().insert(key);
        Ok(())
    }
    fn drop_top(&self, key: &TopKey) -> Result<(), ProbeError> {
        self.tops.lock().unwrap().remove(key);
        Ok(())
    }
    fn tops(&self) -> Result<Vec<TopKey>, ProbeError> {
        Ok(self.tops.lock().unwrap().iter().copied().collect())
    }
}

fn container(id: char, image: &str) -> Container {
    Container {
        reference: ContainerRef {
            namespace: "shop".into(),
            pod: "web".into(),
            pod_uid: "uid".into(),
            container: "app".into(),
            container_id: id.to_string().repeat(64),
            image: Some(image.into()),
            digests: Vec::new(),
        },
        labels: BTreeMap::from([("app".into(), "web".into())]),
        image_aliases: Vec::new(),
        handler: String::new(),
        pid: 1,
        is_sandbox: false,
        running: true,
    }
}

fn policy(name: &str, mode: &str, drift: &serde_json::Value) -> serde_json::Value {
    json!({"policy": {"name": name, "uid": name, "hash": "h"}, "mode": mode, "drift": drift, "libraries": "Off"})
}

fn rule_set(hash: &str, policies: &[serde_json::Value]) -> RuleSet {
    let namespaces = json!({"shop": {"team": "shop"}});
    serde_json::from_value(json!({"hash": hash, "policies": policies, "namespaces": namespaces})).unwrap()
}

fn subject(class: DriftClass, path: &str) -> Subject<'_> {
    Subject { class, path, path_holds: true, unchanged: false, unread: false }
}

fn names(decision: &Decision) -> Vec<&str> {
    decision.policies.iter().map(|policy| policy.name.as_str()).collect()
}

#[test]
fn selectors_and_images_choose_policies() {
    let mut by_image = policy("image", "Audit", &json!({"action": "Audit"}));
    by_image["images"] = json!(["registry.example/prod/**"]);
    let mut by_label = policy("label", "Audit", &json!({"action": "Audit"}));
    by_label["podSelector"] = json!({"matchLabels": {"app": "db"}});
    let mut by_namespace = policy("namespace", "Audit", &json!({"action": "Audit"}));
    by_namespace["namespaceSelector"] = json!({"matchLabels": {"team": "shop"}});
    let off = policy("off", "Enforce", &json!({"action": "Off"}));
    let rules = Rules::new(&rule_set("1", &[by_image, by_label, by_namespace, off])).unwrap();
    let chosen = |container: &Container| -> Vec<String> {
        rules.of(container).iter().map(|policy| policy.reference.name.clone()).collect()
    };
    assert_eq!(chosen(&container('a', "registry.example/prod/team/app:v1")), ["image", "namespace"]);
    assert_eq!(chosen(&container('a', "busybox")), ["namespace"]);
    let mut exempt = container('a', "busybox");
    exempt.reference.namespace = "kube-system".into();
    assert!(chosen(&exempt).is_empty());
    let sandbox = Container { is_sandbox: true, ..container('a', "busybox") };
    assert!(chosen(&sandbox).is_empty());
}

#[test]
fn the_strictest_policy_wins_and_allows_are_its_own() {
    let lax = policy("lax", "Enforce", &json!({"action": "Kill", "kill": ["New", "Foreign"], "allow": ["/data"]}));
    let strict = policy("strict", "Enforce", &json!({"action": "Kill", "kill": ["New"]}));
    let audit = policy("audit", "Audit", &json!({"action": "Kill", "kill": ["Foreign"]}));
    let rules = Rules::new(&rule_set("1", &[lax, strict, audit])).unwrap();
    let policies = rules.of(&container('a', "busybox"));
    let decision = Decision::on_drift(&policies, subject(DriftClass::New, "/data/x"));
    assert_eq!((names(&decision), decision.kill, decision.would_kill), (vec!["audit", "strict"], true, false));
    let decision = Decision::on_drift(&policies, subject(DriftClass::Foreign, "/data/x"));
    assert_eq!((names(&decision), decision.kill, decision.would_kill), (vec!["audit", "strict"], false, true));
    let decision = Decision::on_drift(&policies, subject(DriftClass::Foreign, "/tmp/x"));
    assert!(decision.kill && !decision.would_kill);
    let hidden = Subject { path_holds: false, ..subject(DriftClass::Foreign, "/data/x") };
    assert!(Decision::on_drift(&policies, hidden).kill);
}

#[test]
fn copied_up_files_die_for_changed_content_alone() {
    let rules = Rules::new(&rule_set("1", &[policy("p", "Enforce", &json!({"action": "Kill", "kill": ["CopiedUp"]}))]))
        .unwrap();
    let policies = rules.of(&container('a', "busybox"));
    let changed = subject(DriftClass::CopiedUp, "/bin/x");
    assert!(Decision::on_drift(&policies, changed).kill);
    assert!(!Decision::on_drift(&policies, Subject { unchanged: true, ..changed }).kill);
    assert!(!Decision::on_drift(&policies, Subject { unread: true, ..changed }).kill);
    assert_eq!(Decision::on_drift(&policies, subject(DriftClass::Unknown, "/bin/x")), Decision::default());
    assert_eq!(super::kernel::compile(&policies).0.kill, 0);
}

fn denying(name: &str, processes: &serde_json::Value) -> serde_json::Value {
    let mut policy = policy(name, "Audit", &json!({"action": "Off"}));
    policy["processes"] = processes.clone();
    policy
}

fn denied(policies: &[serde_json::Value], names: &[&str]) -> Option<(String, Vec<String>)> {
    let policies = Rules::new(&rule_set("1", policies)).unwrap().of(&container('a', "busybox"));
    let (rule, by) = Decision::on_process(&policies, names)?;
    Some((rule, by.into_iter().map(|policy| policy.name).collect()))
}

#[test]
fn denied_processes_name_their_glob() {
    let policy = [denying("p", &json!({"deny": ["**/nc", "/usr/bin/*sh"], "allow": ["/usr/bin/ash"]}))];
    assert_eq!(denied(&policy, &["/opt/x/nc"]).unwrap().0, "**/nc");
    assert_eq!(denied(&policy, &["/usr/bin/bash"]).unwrap().0, "/usr/bin/*sh");
    assert!(denied(&policy, &["/usr/bin/ash"]).is_none());
    assert!(denied(&policy, &["/usr/bin/x/sh"]).is_none());
}

#[test]
fn a_glob_that_is_none_takes_no_other_globs_number() {
    let policy = [denying("p", &json!({"deny": ["/a[b", "**/nc"]}))];
    assert_eq!(denied(&policy, &["/bin/nc"]).unwrap().0, "**/nc");
}

#[test]
fn every_policy_that_denies_a_process_by_any_name_is_named_with_its_glob() {
    let policies = [
        denying("links", &json!({"deny": ["**/sh"]})),
        denying("files", &json!({"deny": ["**/busybox"], "allow": ["/bin/sh"]})),
        denying("neither", &json!({"deny": ["**/nc"]})),
    ];
    let (rule, by) = denied(&policies, &["/bin/busybox", "/bin/sh"]).unwrap();
    assert_eq!((rule.as_str(), by), ("**/busybox and **/sh", vec!["files".to_owned(), "links".to_owned()]));
    let (rule, by) = denied(&policies, &["/bin/busybox", "/bin/true"]).unwrap();
    assert_eq!((rule.as_str(), by), ("**/busybox", vec!["files".to_owned()]));
    assert_eq!(denied(&policies, &["/bin/true"]), None);
}

#[test]
fn names_are_read_as_they_lead_through_folders() {
    for (name, expected) in [
        ("/usr/bin/nc", "/usr/bin/nc"),
        ("//usr/./bin//nc", "/usr/bin/nc"),
        ("/usr/lib/../bin/nc", "/usr/bin/nc"),
        ("/../../bin/nc", "/bin/nc"),
        ("/bin/..nc", "/bin/..nc"),
        ("./nc", "./nc"),
        ("", ""),
    ] {
        assert_eq!(spelled(name), expected, "{name}");
    }
}

#[test]
fn the_example_tells_of_shells_and_package_managers() {
    let example = include_str!("../../../docs/examples/shells.yaml");
    let example: zastava_crds::policy::ZastavaPolicy = serde_saphyr::from_str(example).unwrap();
    let policy = [denying("shells", &json!(example.spec.runtime.unwrap().processes.unwrap()))];
    for names in [
        &["/bin/sh"][..],
        &["/bin/busybox", "/bin/sh"],
        &["/bin/busybox", "sh"],
        &["/bin/busybox", "/tmp/link"],
        &["/usr/bin/dash", "/bin/sh"],
        &["/usr/bin/bash"],
        &["/sbin/apk"],
        &["/usr/bin/apt-get"],
        &["/usr/bin/microdnf"],
        &["/usr/local/lib/python3.12/site-packages/x", "/usr/local/bin/pip3.12"],
        &["/app/tool", "/app/tool", "/app/tool", "/bin/sh"],
    ] {
        assert!(denied(&policy, names).is_some(), "{names:?}");
    }
    for names in [&["/app/server"][..], &["/usr/bin/python3.12"], &["/usr/bin/sha256sum"], &["/usr/bin/ssh"]] {
        assert_eq!(denied(&policy, names), None, "{names:?}");
    }
}

#[test]
fn while_rules_change_old_or_new_ones_hold_and_never_none() {
    let kernel = Arc::new(FakeKernel::default());
    let register = Register::new(kernel.clone(), || {}).unwrap();
    let id = "a".repeat(64);
    let key = id_key(&id).unwrap();
    let sets = ["old", "new"].map(|name| rule_set(name, &[denying(name, &json!({"deny": ["**/nc"]}))]));
    register.set_rules(&sets[0]);
    register.listed(vec![container('a', "busybox")]);
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        let judge = scope.spawn(|| {
            while seen.iter().any(|count| count.load(Ordering::Relaxed) < 2_000) {
                let Lookup::Known(_, policies) = register.lookup(&id) else { panic!("no rules are known") };
                assert_eq!(policies.len(), 1);
                let (_, by) = Decision::on_process(&policies, &["/bin/nc"]).unwrap();
                seen[usize::from(by[0].name == "new")].fetch_add(1, Ordering::Relaxed);
                let rules = kernel.rules.lock().unwrap().get(&key).copied();
                assert_eq!(rules.unwrap().flags, rule_flags::EVERY_EXEC);
            }
        });
        let mut turn = 0;
        while !judge.is_finished() {
            turn += 1;
            register.set_rules(&sets[turn % 2]);
            if turn % 8 == 0 {
                register.listed(vec![container('a', "busybox")]);
            }
            std::thread::yield_now();
        }
        judge.join().unwrap();
    });
}

#[test]
fn the_kernel_follows_containers_and_rules() {
    let kernel = Arc::new(FakeKernel::default());
    // Left by an earlier agent: a container that is gone.
    kernel.put_top(TopKey::new(7, "old")).unwrap();
    let gone = id_key(&"d".repeat(64)).unwrap();
    kernel.put(&gone, KernelRules { slot: 7, ..KernelRules::default() }).unwrap();
    let changes = Arc::new(AtomicUsize::new(0));
    let count = changes.clone();
    let register = Register::new(kernel.clone(), move || {
        count.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    let id = "a".repeat(64);
    let key = id_key(&id).unwrap();
    register.seen(container('a', "busybox"));
    assert!(matches!(register.lookup(&id), Lookup::Undecided));
    assert!(kernel.ruled().unwrap().iter().all(|(known, _)| *known != key));

    let drift = json!({"action": "Kill", "kill": ["New"], "allow": ["/data/*"]});
    register.set_rules(&rule_set("1", &[policy("p", "Enforce", &drift)]));
    let rules = kernel.rules.lock().unwrap()[&key];
    assert_eq!((rules.flags, rules.kill), (rule_flags::DRIFT | rule_flags::GUARDED, 0b10));
    assert_eq!(kernel.tops.lock().unwrap().iter().filter(|top| top.slot == rules.slot).count(), 1);
    assert!(register.kills());

    // The list tells that nothing else is there.
    register.listed(vec![container('a', "busybox")]);
    assert_eq!(kernel.ruled().unwrap().len(), 1);
    assert!(kernel.tops().unwrap().iter().all(|top| top.slot != 7));

    register.set_rules(&rule_set("2", &[policy("p", "Audit", &drift)]));
    assert_eq!(kernel.rules.lock().unwrap()[&key].kill, 0);
    assert!(kernel.tops().unwrap().is_empty() && !register.kills());

    register.removed(&id);
    assert!(kernel.ruled().unwrap().is_empty());
    assert!(matches!(register.lookup(&id), Lookup::Known(..)), "late records still find it");
    assert!(register.running().is_empty());
    assert!(changes.load(Ordering::Relaxed) >= 4);
}

#[test]
fn a_container_of_others_is_filtered_once_the_runtime_was_asked() {
    let kernel = Arc::new(FakeKernel::default());
    let register = Register::new(kernel.clone(), || {}).unwrap();
    let id = "e".repeat(64);
    let since = std::time::Instant::now();
    register.estrange(&id, since);
    assert!(matches!(register.lookup(&id), Lookup::Unknown));
    register.listed(Vec::new());
    register.estrange(&id, since);
    assert!(matches!(register.lookup(&id), Lookup::Stranger));
    assert_eq!(kernel.ruled().unwrap().len(), 1);
    register.seen(container('e', "busybox"));
    assert!(matches!(register.lookup(&id), Lookup::Undecided));
}

#[test]
fn what_an_earlier_agent_knew_holds_until_the_runtime_tells() {
    let set = rule_set("1", &[policy("p", "Audit", &json!({"action": "Audit"}))]);
    let first = Register::new(Arc::new(FakeKernel::default()), || {}).unwrap();
    first.set_rules(&set);
    first.listed(vec![container('a', "busybox"), container('b', "busybox"), container('c', "busybox")]);
    first.removed(&"a".repeat(64));
    first.removed(&"b".repeat(64));
    let handed = first.to_hand_on();
    let ids: Vec<char> = handed.iter().filter_map(|c| c.reference.container_id.chars().next()).collect();
    assert_eq!(ids, ['c', 'b', 'a'], "those that are there first, then those that went last");

    let kernel = Arc::new(FakeKernel::default());
    let next = Register::new(kernel.clone(), || {}).unwrap();
    next.handed_on(handed);
    next.set_rules(&set);
    assert!(matches!(next.lookup(&"c".repeat(64)), Lookup::Undecided), "the runtime may know more");
    next.listed(vec![container('c', "busybox")]);
    for id in ['a', 'b', 'c'] {
        let Lookup::Known(container, policies) = next.lookup(&id.to_string().repeat(64)) else { panic!("{id}") };
        assert_eq!((container.pid, container.running), if id == 'c' { (1, true) } else { (0, false) });
        assert_eq!(policies.len(), 1);
    }
    assert_eq!(next.running().len(), 1);
    assert_eq!(kernel.ruled().unwrap().len(), 1, "nothing of those that are gone is in the kernel");
    assert_eq!(next.to_hand_on().len(), 3, "an agent that ends early hands on what it was handed");
}
