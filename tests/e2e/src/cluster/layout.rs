//! Where a cluster lives: its folder, its addresses, its names. Everything follows from the name and the slot.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::error::{At as _, Error, Result};

/// One address block a cluster: 10.64.0.0/16 and the 63 after it.
const FIRST_BLOCK: u8 = 64;
const BLOCKS: u8 = 64;
/// The slots of all clusters of this machine, whichever cache they live in: they share one routing table.
const SLOTS: &str = "/run/zastava-e2e";
/// The name under which nodes and pods know the registry.
pub const REGISTRY: &str = "registry.zastava.test:5000";
/// The one beside it, which has no referrers API.
pub const BARE_REGISTRY: &str = "registry.zastava.test:5001";

/// Names and addresses of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    name: String,
    block: u8,
    root: PathBuf,
}

impl Layout {
    /// The layout of a cluster that has a slot, if it has one.
    pub fn existing(name: &str, cache: &Path) -> Result<Option<Self>> {
        let root = root_of(name, cache)?;
        for block in FIRST_BLOCK..FIRST_BLOCK + BLOCKS {
            match fs::read_to_string(slot(block)) {
                Ok(owner) if Path::new(owner.trim()) == root => {
                    return Ok(Some(Self { name: name.to_owned(), block, root }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::File { path: slot(block), source }),
            }
        }
        Ok(None)
    }

    /// The layout of a cluster; takes the first free slot if it has none.
    pub fn claim(name: &str, cache: &Path) -> Result<Self> {
        if let Some(layout) = Self::existing(name, cache)? {
            return Ok(layout);
        }
        let root = root_of(name, cache)?;
        fs::create_dir_all(SLOTS).at(SLOTS)?;
        for block in FIRST_BLOCK..FIRST_BLOCK + BLOCKS {
            if routed(block) {
                continue;
            }
            // A slot whose cluster's folder is gone (the cache was deleted) belongs to nobody.
            if let Ok(owner) = fs::read_to_string(slot(block))
                && !owner.trim().is_empty()
                && !Path::new(owner.trim()).exists()
            {
                let _ = fs::remove_file(slot(block));
            }
            let created = fs::OpenOptions::new().write(true).create_new(true).open(slot(block));
            match created {
                Ok(mut file) => {
                    fs::create_dir_all(&root).at(&root)?;
                    write!(file, "{}", root.display()).at(slot(block))?;
                    return Ok(Self { name: name.to_owned(), block, root });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::File { path: slot(block), source }),
            }
        }
        Err(Error::Invalid(format!(
            "no free address block between 10.{FIRST_BLOCK}.0.0/16 and 10.{}.0.0/16: take a cluster down first (slots are files in {SLOTS})",
            FIRST_BLOCK + BLOCKS - 1
        )))
    }

    /// Gives the slot back.
    pub fn release(&self) -> Result<()> {
        match fs::remove_file(slot(self.block)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { path: slot(self.block), source });
            }
            _ => {}
        }
        let _ = fs::remove_dir(SLOTS); // only goes when it is empty
        Ok(())
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster's folder: `state` while it is up, `logs/<run>` for good.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a running cluster needs; removed when it goes down.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// A file or folder of the state.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.state().join(relative)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig/admin.json")
    }

    /// The hosts file that gives the registry its name, for tools that run outside the nodes.
    pub fn hosts_file(&self) -> PathBuf {
        self.path("hosts")
    }

    /// Records of the running processes.
    pub fn processes(&self) -> PathBuf {
        self.path("processes")
    }

    /// The network namespace of the control plane; it holds the bridge.
    pub fn control_netns(&self) -> String {
        format!("zastava-{}-control", self.name)
    }

    /// The network namespace of a node.
    pub fn node_netns(&self, node: Node) -> String {
        format!("zastava-{}-node{}", self.name, node.0)
    }

    /// The end of the veth pair on the host's side.
    pub fn host_link(&self) -> String {
        format!("zastava{}", self.block)
    }

    /// The cgroup, in every hierarchy, below which a node's containers live.
    pub fn cgroup(&self, node: Node) -> String {
        format!("zastava-{}-node{}", self.name, node.0)
    }

    fn address(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.block, third, fourth)
    }

    /// The control plane: API server (6443) and DNS (53).
    pub fn control(&self) -> Ipv4Addr {
        self.address(255, 1)
    }

    /// The registry; its own address, so that a scenario can take it away.
    pub fn registry(&self) -> Ipv4Addr {
        self.address(255, 2)
    }

    /// The machine itself, as nodes and pods reach it.
    pub fn host(&self) -> Ipv4Addr {
        self.address(255, 254)
    }

    /// A node's address.
    pub fn node(&self, node: Node) -> Ipv4Addr {
        self.address(255, 10 + node.0)
    }

    /// The pods of one node.
    pub fn node_pods(&self, node: Node) -> String {
        format!("10.{}.{}.0/24", self.block, node.0)
    }

    /// The pods of all nodes.
    pub fn pods(&self) -> String {
        format!("10.{}.0.0/17", self.block)
    }

    /// The Services.
    pub fn services(&self) -> String {
        format!("10.{}.192.0/20", self.block)
    }

    /// The Service `kubernetes`.
    pub fn kubernetes_service(&self) -> Ipv4Addr {
        self.address(192, 1)
    }
}

/// A node of the cluster, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node(pub u8);

impl Node {
    /// All nodes of a cluster of `count`.
    pub fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "node-{}", self.0)
    }
}

/// Writes a configuration file unless it says that already: kube-proxy ends when somebody touches its own.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(path, text).at(path)
}

fn slot(block: u8) -> PathBuf {
    Path::new(SLOTS).join(block.to_string())
}

/// Whether this machine already routes into 10.`block`.0.0/16 (a VPN, another bridge).
fn routed(block: u8) -> bool {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let wanted = Ipv4Addr::new(10, block, 0, 0);
    routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace().skip(1);
            let destination = u32::from_str_radix(columns.next()?, 16).ok()?.swap_bytes();
            let mask = u32::from_str_radix(columns.nth(5)?, 16).ok()?.swap_bytes();
            Some((destination, mask))
        })
        .any(|(destination, mask)| {
            mask != 0 && {
                let shorter = mask & 0xffff_0000;
                destination & shorter == u32::from(wanted) & shorter
            }
        })
}

fn root_of(name: &str, cache: &Path) -> Result<PathBuf> {
    let fits = name.len() <= 20
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !fits {
        return Err(Error::Invalid(format!(
            "cluster name {name:?}: use at most 20 lower-case letters, digits and '-', a letter first (ZASTAVA_CLUSTER)"
        )));
    }
    for hidden in ["/run", "/var/run", "/var/lib", "/var/log"] {
        if cache.starts_with(hidden) {
            return Err(Error::Invalid(format!(
                "cache {}: the nodes have their own {hidden}; set ZASTAVA_CACHE to a folder elsewhere",
                cache.display()
            )));
        }
    }
    Ok(cache.join("clusters").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_a_namespace_is_refused() {
        for name in ["", "Upper", "1st", "a_b", "a-name-that-is-far-too-long", "../x"] {
            let refused = root_of(name, Path::new("/cache")).unwrap_err().to_string();
            assert!(refused.contains("ZASTAVA_CLUSTER"), "{name}: {refused}");
        }
    }

    #[test]
    fn a_cache_that_the_nodes_hide_is_refused() {
        let refused = root_of("a", Path::new("/var/lib/zastava")).unwrap_err().to_string();
        assert!(refused.contains("ZASTAVA_CACHE"), "{refused}");
    }

    #[test]
    fn pods_services_and_nodes_do_not_overlap() {
        let layout = Layout { name: "a".into(), block: 70, root: "/x".into() };
        assert_eq!(layout.pods(), "10.70.0.0/17"); // 10.70.0.0 to 10.70.127.255
        assert_eq!(layout.services(), "10.70.192.0/20"); // 10.70.192.0 to 10.70.207.255
        assert_eq!(layout.node(Node(2)), Ipv4Addr::new(10, 70, 255, 12));
        assert_eq!(layout.node_pods(Node(2)), "10.70.2.0/24");
    }
}
