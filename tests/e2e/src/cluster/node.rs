//! One node: a network, PID and mount namespace of its own on the shared kernel, with containerd, kubelet and
//! kube-proxy on their usual paths.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::layout::{BARE_REGISTRY, Layout, Node, REGISTRY};
use super::process::{Process, enter};
use super::{Run, pause};
use crate::error::{At as _, Error, Result};

/// PID 1 of a node. Its /run, /var/lib and /var/log are its own, so that every program finds its default paths, and so
/// is its bpffs: two observers on one kernel must not meet in each other's pins. Bash as PID 1 reaps orphans.
const INIT: &str = r#"set -e
folder=$1
mount --make-rshared /
mount -t tmpfs -o mode=755,size=256m tmpfs /run
[ -L /var/run ] || mount --bind /run /var/run
mkdir -p /run/lock /run/netns
mount --bind "$folder/lib" /var/lib
mount --bind "$folder/log" /var/log
if [ -d /sys/fs/bpf ]; then mount -t bpf -o mode=700 bpf /sys/fs/bpf; fi
if [ -d /sys/kernel/tracing ] && [ ! -e /sys/kernel/tracing/events ]; then mount -t tracefs tracefs /sys/kernel/tracing; fi
touch "$folder/lib/.node-is-up"
set +e
trap : CHLD TERM HUP INT
while :; do sleep 86400 & wait; done"#;

/// The programs of a node that a scenario may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// containerd. Its containers go on without it.
    Containerd,
    /// The kubelet.
    Kubelet,
    /// kube-proxy.
    Proxy,
}

impl Program {
    const ALL: [Self; 3] = [Self::Containerd, Self::Kubelet, Self::Proxy];

    fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
        }
    }
}

/// Starts whatever of the node does not run.
pub fn start_all(run: &Run, node: Node) -> Result<()> {
    holder(run, node)?;
    for program in Program::ALL {
        start(run, node, program)?;
    }
    Ok(())
}

/// Starts one program of the node unless it runs.
pub fn start(run: &Run, node: Node, program: Program) -> Result<()> {
    let holder = holder(run, node)?;
    let file = |name: &str| run.layout.path(&format!("nodes/{node}/{name}")).display().to_string();
    let tools = run.tools.bin().display();
    let mut line: Vec<String> =
        ["nsenter", "--target", &holder.to_string(), "--net", "--pid", "--mount", "--"].map(str::to_owned).into();
    let arguments = match program {
        Program::Containerd => vec![format!("{tools}/containerd"), "--config".into(), file("containerd.toml")],
        Program::Kubelet => vec![
            format!("{tools}/kubelet"),
            format!("--config={}", file("kubelet.json")),
            format!("--kubeconfig={}", run.layout.path(&format!("kubeconfig/{node}.json")).display()),
            format!("--hostname-override={node}"),
            format!("--node-ip={}", run.layout.node(node)),
        ],
        Program::Proxy => vec![format!("{tools}/kube-proxy"), format!("--config={}", file("proxy.json"))],
    };
    line.extend(arguments);
    run.ensure(&record(node, program), line)?;
    if program == Program::Containerd {
        let socket = "/run/containerd/containerd.sock";
        run.until(&format!("containerd of {node} listens"), Duration::from_secs(30), || {
            enter(holder, &["test", "-S", socket]).is_ok()
        })?;
    }
    Ok(())
}

/// Kills one program of the node.
pub fn stop(run: &Run, node: Node, program: Program) -> Result<()> {
    Process::running(&run.layout.processes(), &record(node, program)).map_or(Ok(()), |process| process.kill())
}

/// PID 1 of the node, as the machine sees it; started if it does not run.
pub fn holder(run: &Run, node: Node) -> Result<i32> {
    let name = format!("{node}-init");
    let folder = folder(&run.layout, node);
    let mark = folder.join("lib/.node-is-up");
    if Process::running(&run.layout.processes(), &name).is_none() {
        let _ = fs::remove_file(&mark);
    }
    let line = [
        "nsenter",
        &format!("--net=/run/netns/{}", run.layout.node_netns(node)),
        "--",
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount",
        "--propagation",
        "slave",
        "--mount-proc",
        "--",
        "bash",
        "-c",
        INIT,
        "node-init",
        &folder.display().to_string(),
    ]
    .map(str::to_owned);
    let process = run.ensure(&name, line.into())?;
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if mark.exists()
            && let Some(id) = process.child()
        {
            return Ok(id);
        }
        if !process.alive() || Instant::now() > until {
            return Err(Error::Invalid(format!(
                "{node} did not come up; see {}",
                run.logs.join(format!("{name}.log")).display()
            )));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Removes the cgroups that the node's containers lived in.
pub fn raze_cgroups(layout: &Layout, node: Node) {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        raze_cgroup(&hierarchy.join(layout.cgroup(node)));
    }
}

fn raze_cgroup(path: &std::path::Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            raze_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path); // the same cgroup shows under several names where controllers are mounted together
}

fn record(node: Node, program: Program) -> String {
    format!("{node}-{}", program.name())
}

fn folder(layout: &Layout, node: Node) -> PathBuf {
    layout.path(&format!("nodes/{node}"))
}

/// Writes the node's configuration files.
pub fn configure(run: &Run, node: Node) -> Result<()> {
    let layout = &run.layout;
    let folder = folder(layout, node);
    let text = |name: &str, content: String| {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at(parent)?;
        }
        super::layout::write(&path, &content)
    };
    for inside in ["lib", "log"] {
        let path = folder.join(inside);
        fs::create_dir_all(&path).at(&path)?;
    }
    let tools = run.tools.bin().display().to_string();
    let here = folder.display().to_string();
    text("containerd.toml", containerd(&here, &tools))?;
    for (name, port) in [(REGISTRY, 5000), (BARE_REGISTRY, 5001)] {
        let server = format!("http://{}:{port}", layout.registry());
        text(
            &format!("certs.d/{name}/hosts.toml"),
            format!("server = \"{server}\"\n[host.\"{server}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"),
        )?;
    }
    text("resolv.conf", format!("nameserver {}\n", layout.control()))?;
    text("kubelet.json", kubelet(layout, node, &here).to_string())?;
    text("proxy.json", proxy(layout, &node.to_string(), "0.0.0.0").to_string())?;
    let network = json!({"cniVersion": "1.0.0", "name": "zastava", "plugins": [{
        "type": "ptp", "mtu": 1500,
        "ipam": {
            "type": "host-local", "dataDir": "/run/cni",
            "ranges": [[{"subnet": layout.node_pods(node)}]], "routes": [{"dst": "0.0.0.0/0"}],
        },
    }]});
    text("cni/10-zastava.conflist", network.to_string())
}

fn containerd(folder: &str, tools: &str) -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{}"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "{folder}/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
# Root may lack CAP_SYS_RESOURCE (inside another container or sandbox).
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{tools}"]
conf_dir = "{folder}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{tools}/runc"
SystemdCgroup = false
"#,
        pause::reference()
    )
}

fn kubelet(layout: &Layout, node: Node, folder: &str) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.path("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": [layout.control()], "clusterDomain": "cluster.local",
        "resolvConf": format!("{folder}/resolv.conf"),
        // The machine may have cgroup v1 controllers only, and its limits are not this node's.
        "failCgroupV1": false, "cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "enforceNodeAllocatable": [],
        "cgroupRoot": format!("/{}", layout.cgroup(node)),
        "failSwapOn": false, "localStorageCapacityIsolation": false, "oomScoreAdj": 0,
        // Every node shares one disk: a full one is the machine's matter, not a reason to evict.
        "evictionHard": {"memory.available": "1%", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": false, "maxPods": 200,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
    })
}

/// kube-proxy's configuration; the control plane runs one as well, so that the API server reaches webhooks.
pub(super) fn proxy(layout: &Layout, node: &str, health: &str) -> serde_json::Value {
    let kubeconfig = layout.path("kubeconfig/proxy.json");
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables", "hostnameOverride": node,
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": layout.pods(), "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": format!("{health}:10256"), "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        // The conntrack table belongs to the machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "200ms"},
    })
}
