//! The cluster at hand: one of this harness, or the one that `KUBECONFIG` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kube::Client;
use sha2::{Digest as _, Sha256};

use crate::cluster::{self, Run};
use crate::command::output;
use crate::error::{At as _, Error, Result};
use crate::registry::Registry;
use crate::tools::{Tools, cache};

/// A cluster, the tools for it and the registry it pulls from.
#[derive(Debug)]
pub struct Stage {
    kubeconfig: PathBuf,
    registry: Registry,
    bare_registry: Option<Registry>,
    tools: Tools,
    keys: PathBuf,
    run: Option<Run>,
}

impl Stage {
    /// The cluster that `KUBECONFIG` names; without it, the harness's cluster `name`, brought up if it is not.
    pub async fn open(name: &str, nodes: u8) -> Result<Self> {
        match std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from) {
            Some(kubeconfig) => match own(&kubeconfig)? {
                Some(name) => Ok(Self::of(Run::attach(&name)?)),
                None => Self::external(kubeconfig),
            },
            None => Ok(Self::of(match Run::attach(name) {
                Ok(run) => run,
                Err(_) => Run::up(name, nodes, Tools::build()?).await?,
            })),
        }
    }

    /// A cluster of this harness.
    pub fn of(run: Run) -> Self {
        let layout = run.layout();
        Self {
            kubeconfig: layout.kubeconfig(),
            registry: Registry::of(layout, run.tools()),
            bare_registry: Some(Registry::bare_of(layout, run.tools())),
            tools: run.tools().clone(),
            keys: layout.path("keys"),
            run: Some(run),
        }
    }

    fn external(kubeconfig: PathBuf) -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(base) = set("ZASTAVA_REGISTRY") else {
            return Err(Error::Invalid(format!(
                "KUBECONFIG={}: set ZASTAVA_REGISTRY to a registry (host[:port][/path]) that this machine can push to and the \
                 cluster can pull from, and ZASTAVA_REGISTRY_PLAIN_HTTP=1 if it has no TLS",
                kubeconfig.display()
            )));
        };
        let tools = Tools::build()?;
        let registry = Registry::external(&base, set("ZASTAVA_REGISTRY_PLAIN_HTTP").is_some(), &tools);
        // Not in the cluster's own folder, it has none here: keys are told apart by what leads to the cluster.
        let text = fs::read(&kubeconfig).at(&kubeconfig)?;
        let keys = cache()?.join("keys").join(&hex::encode(Sha256::digest(text))[..16]);
        Ok(Self { kubeconfig, registry, bare_registry: None, tools, keys, run: None })
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A second registry, without the referrers API, where the cluster is one of this harness.
    pub fn bare_registry(&self) -> Option<&Registry> {
        self.bare_registry.as_ref()
    }

    /// The programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The folder of key pairs.
    pub fn keys(&self) -> &Path {
        &self.keys
    }

    /// The cluster, where it is one of this harness: its processes can be stopped and started.
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// A client with the rights of the kubeconfig.
    pub async fn client(&self) -> Result<Client> {
        cluster::client(&self.kubeconfig).await
    }

    /// One of the tools, for this cluster.
    pub fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(self.tools.path(program));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs kubectl and returns what it printed.
    pub fn kubectl(&self, line: &[&str]) -> Result<String> {
        output(self.tool("kubectl").args(line))
    }
}

/// The name of the harness's own cluster that a kubeconfig belongs to, if it does.
fn own(kubeconfig: &Path) -> Result<Option<String>> {
    let clusters = cache()?.join("clusters");
    let name =
        kubeconfig.strip_prefix(&clusters).ok().and_then(|inside| inside.iter().next()).and_then(|name| name.to_str());
    match name {
        Some(name) if cluster::kubeconfig(name).is_ok_and(|path| path == kubeconfig) => Ok(Some(name.to_owned())),
        _ => Ok(None),
    }
}
