//! The cluster: brought up, repaired and taken down. Every step looks at what is there first, so that `up` after an
//! interrupted `up` goes on, and `down` finds all of it.

mod certificates;
pub mod control;
pub mod layout;
mod network;
pub mod node;
mod pause;
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node as KubeNode, ServiceAccount};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::{Deserialize, Serialize};

use crate::error::{At as _, Error, Result};
use crate::tools::{Tools, cache};
use layout::{Layout, Node};
use process::{Process, Spec};

/// How many runs' logs are kept.
const RUNS_KEPT: usize = 10;
/// How many nodes one machine carries.
const MOST_NODES: u8 = 8;

/// What a cluster was started with; another shape means another cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    nodes: u8,
    tools: PathBuf,
    boot: String,
    run: String,
}

/// A cluster that is up, or on its way there.
#[derive(Debug)]
pub struct Run {
    layout: Layout,
    tools: Tools,
    logs: PathBuf,
    nodes: u8,
}

impl Run {
    /// Brings the cluster `name` up with `nodes` nodes, or repairs it; returns when every node is Ready.
    pub async fn up(name: &str, nodes: u8, tools: Tools) -> Result<Self> {
        if nodes == 0 || nodes > MOST_NODES {
            return Err(Error::Invalid(format!("--nodes {nodes}: use 1 to {MOST_NODES}")));
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Invalid("the cluster's nodes are namespaces of this machine: run as root".into()));
        }
        let started = Instant::now();
        let cache = cache()?;
        let _guard = Guard::take(name, &cache)?;
        let wanted = |run: String| Shape { nodes, tools: tools.bin().to_path_buf(), boot: boot(), run };
        if let Some(layout) = Layout::existing(name, &cache)?
            && let Some(shape) = shape(&layout)?
            && shape != wanted(shape.run.clone())
        {
            step(started, "another shape or boot than the one that is up: starting over");
            raze(&layout)?;
        }
        let layout = Layout::claim(name, &cache)?;
        let run = shape(&layout)?
            .map_or_else(|| jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string(), |shape| shape.run);
        let logs = layout.root().join("logs").join(&run);
        fs::create_dir_all(&logs).at(&logs)?;
        fs::create_dir_all(layout.state()).at(layout.state())?;
        prune(&layout.root().join("logs"))?;
        let file = layout.path("shape.json");
        fs::write(&file, serde_json::to_string(&wanted(run))?).at(&file)?;
        let run = Self { layout, tools, logs, nodes };
        run.raise(started).await?;
        Ok(run)
    }

    /// The running cluster `name`.
    pub fn attach(name: &str) -> Result<Self> {
        let layout = Layout::existing(name, &cache()?)?;
        let Some((layout, shape)) =
            layout.and_then(|layout| shape(&layout).ok().flatten().map(|shape| (layout, shape)))
        else {
            return Err(Error::Invalid(format!(
                "cluster {name} is not up: `make cluster-up` starts it (ZASTAVA_CLUSTER names it)"
            )));
        };
        let logs = layout.root().join("logs").join(&shape.run);
        Ok(Self { layout, tools: Tools::build()?, logs, nodes: shape.nodes })
    }

    async fn raise(&self, started: Instant) -> Result<()> {
        certificates::issue(&self.layout, self.nodes)?;
        network::raise(&self.layout, self.nodes)?;
        control::configure(self)?;
        step(started, "network and certificates");
        for node in Node::all(self.nodes) {
            node::configure(self, node)?;
        }
        self.start()?;
        step(started, "control plane and nodes started");
        pause::push(self)?;
        let client = self.client().await?;
        let deadline = Duration::from_mins(2);
        self.ready(&client, deadline).await?;
        step(started, &format!("{} nodes Ready", self.nodes));
        Ok(())
    }

    /// Starts whatever does not run.
    fn start(&self) -> Result<()> {
        for program in control::Program::ALL {
            control::start(self, program)?;
        }
        Node::all(self.nodes).try_for_each(|node| node::start_all(self, node))
    }

    /// Waits until the API answers, every node is Ready and pods can be created.
    async fn ready(&self, client: &Client, deadline: Duration) -> Result<()> {
        let nodes: Api<KubeNode> = Api::all(client.clone());
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        let until = Instant::now() + deadline;
        loop {
            // A controller that waited too long for a slow API server gives up, and is started again.
            self.start()?;
            let last = match nodes.list(&ListParams::default()).await {
                Ok(list) => {
                    let ready = list.items.iter().filter(|node| is_ready(node)).count();
                    if ready == usize::from(self.nodes) && matches!(accounts.get_opt("default").await, Ok(Some(_))) {
                        return Ok(());
                    }
                    format!("{ready} of {} nodes Ready, service accounts wait for the controllers", self.nodes)
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() > until {
                return Err(Error::Deadline {
                    what: format!("the cluster is ready (logs in {})", self.logs.display()),
                    after: deadline,
                    last,
                });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Starts again what a scenario stopped or what gave up meanwhile, and waits until the cluster is ready.
    pub async fn restore(&self) -> Result<()> {
        self.ready(&self.client().await?, Duration::from_mins(2)).await
    }

    /// A client with the administrator's rights.
    pub async fn client(&self) -> Result<Client> {
        client(&self.layout.kubeconfig()).await
    }

    /// Names and addresses.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The folder of this run's logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        Node::all(self.nodes)
    }

    /// PID 1 of a node, as the machine sees it: `nsenter --target` takes it.
    pub fn node_pid(&self, node: Node) -> Result<i32> {
        node::holder(self, node)
    }

    /// Runs a short command in a node's namespaces and returns its output.
    pub fn on_node(&self, node: Node, line: &[&str]) -> Result<String> {
        process::enter(node::holder(self, node)?, line)
    }

    /// Makes the registry unreachable for everyone, or reachable again; its content stays.
    pub fn registry_reachable(&self, reachable: bool) -> Result<()> {
        network::registry_reachable(&self.layout, reachable)
    }

    fn ensure(&self, name: &str, line: Vec<String>) -> Result<Process> {
        Process::ensure(&Spec {
            name,
            line,
            path: self.tools.bin(),
            records: &self.layout.processes(),
            logs: &self.logs,
        })
    }

    fn until(&self, what: &str, after: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
        let until = Instant::now() + after;
        while !holds() {
            if Instant::now() > until {
                return Err(Error::Deadline {
                    what: what.to_owned(),
                    after,
                    last: format!("logs in {}", self.logs.display()),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Takes the cluster down, however far it came up. Its logs stay.
pub fn down(name: &str) -> Result<bool> {
    let cache = cache()?;
    let Some(layout) = Layout::existing(name, &cache)? else {
        return Ok(false);
    };
    let _guard = Guard::take(name, &cache)?;
    raze(&layout)?;
    layout.release()?;
    Ok(true)
}

/// The kubeconfig of the running cluster `name`.
pub fn kubeconfig(name: &str) -> Result<PathBuf> {
    Layout::existing(name, &cache()?)?
        .map(|layout| layout.kubeconfig())
        .filter(|path| path.exists())
        .ok_or_else(|| Error::Invalid(format!("cluster {name} is not up: `make cluster-up` starts it")))
}

/// A client for a kubeconfig file.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn raze(layout: &Layout) -> Result<()> {
    // Twice: a process that was being started while the first pass ran has its record by the second.
    for _ in 0..2 {
        for process in Process::all_running(&layout.processes()) {
            process.kill()?;
        }
    }
    network::raze(layout)?;
    for node in Node::all(MOST_NODES) {
        node::raze_cgroups(layout, node);
    }
    let state = layout.state();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut left: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|at| Path::new(at).starts_with(&state))
        .collect();
    left.sort_unstable_by_key(|at| std::cmp::Reverse(at.len()));
    for at in left {
        crate::command::run("umount", ["-l", at])?;
    }
    match fs::remove_dir_all(&state) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::File { path: state, source }),
        _ => Ok(()),
    }
}

fn shape(layout: &Layout) -> Result<Option<Shape>> {
    let path = layout.path("shape.json");
    match fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path, source }),
    }
}

fn is_ready(node: &KubeNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn prune(logs: &Path) -> Result<()> {
    let mut runs: Vec<PathBuf> = fs::read_dir(logs).at(logs)?.flatten().map(|entry| entry.path()).collect();
    runs.sort();
    for old in runs.iter().rev().skip(RUNS_KEPT) {
        fs::remove_dir_all(old).at(old)?;
    }
    Ok(())
}

fn step(started: Instant, what: &str) {
    eprintln!("cluster: {what} ({:.1} s)", started.elapsed().as_secs_f32());
}

/// One `up` or `down` of a cluster at a time; the kernel drops the lock with the process.
struct Guard {
    _file: fs::File,
}

impl Guard {
    fn take(name: &str, cache: &Path) -> Result<Self> {
        let folder = cache.join("clusters");
        fs::create_dir_all(&folder).at(&folder)?;
        let path = folder.join(format!("{name}.lock"));
        let file = fs::OpenOptions::new().create(true).append(true).open(&path).at(&path)?;
        file.lock().at(&path)?;
        Ok(Self { _file: file })
    }
}
