//! The cluster's network: one namespace for the control plane, which holds a bridge, one a node, and one link to the
//! machine itself. Nothing but that link touches the machine's own namespace.

use std::path::Path;
use std::process::Command;

use super::layout::{Layout, Node};
use crate::command::{finish, output, run};
use crate::error::Result;

/// Makes what is missing. Safe to repeat after an interrupted run.
pub fn raise(layout: &Layout, nodes: u8) -> Result<()> {
    let control = layout.control_netns();
    namespace(&control)?;
    // Bridged frames must not pass the control plane's own service rules; without br_netfilter there is no such switch.
    let _ = within(&control, &["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"]);
    if !has_link(&control, "nodes")? {
        ip(&control, "link add nodes type bridge")?;
    }
    ip(&control, &format!("addr replace {}/24 dev nodes", layout.control()))?;
    ip(&control, &format!("addr replace {}/24 dev nodes", layout.registry()))?;
    ip(&control, "link set nodes up")?;

    let host = layout.host_link();
    let (outside, inside) =
        (finish(Command::new("ip").args(["link", "show", &host]))?.success, has_link(&control, "machine")?);
    if !(outside && inside) {
        if outside {
            run("ip", ["link", "del", &host])?; // half made, or its namespace was made anew
        }
        if inside {
            ip(&control, "link del machine")?;
        }
        run("ip", ["link", "add", &host, "type", "veth", "peer", "name", "machine", "netns", &control])?;
    }
    ip(&control, "link set machine master nodes up")?;
    run("ip", ["addr", "replace", &format!("{}/24", layout.host()), "dev", &host])?;
    run("ip", ["link", "set", &host, "up"])?;

    for node in Node::all(nodes) {
        let netns = layout.node_netns(node);
        namespace(&netns)?;
        let port = format!("node{}", node.0);
        if !has_link(&netns, "eth0")? {
            if has_link(&control, &port)? {
                ip(&control, &format!("link del {port}"))?;
            }
            ip(&control, &format!("link add {port} type veth peer name eth0 netns {netns}"))?;
        }
        ip(&control, &format!("link set {port} master nodes up"))?;
        ip(&netns, &format!("addr replace {}/24 dev eth0", layout.node(node)))?;
        ip(&netns, "link set eth0 up")?;
        // A Service's address needs some route before kube-proxy's rules turn it into a pod's.
        ip(&netns, &format!("route replace default via {}", layout.control()))?;
    }
    for node in Node::all(nodes) {
        let pods = layout.node_pods(node);
        let via = layout.node(node).to_string();
        ip(&control, &format!("route replace {pods} via {via}"))?;
        run("ip", ["route", "replace", &pods, "via", &via, "dev", &host])?;
        for other in Node::all(nodes).filter(|other| *other != node) {
            ip(&layout.node_netns(other), &format!("route replace {pods} via {via}"))?;
        }
    }
    ip(&control, &format!("route replace default via {}", layout.host()))?;
    let first = layout.node(Node(1)).to_string();
    run("ip", ["route", "replace", &layout.services(), "via", &first, "dev", &host])?;
    Ok(())
}

/// Removes every namespace and link of the cluster.
pub fn raze(layout: &Layout) -> Result<()> {
    let ours = format!("zastava-{}-", layout.name());
    for netns in existing()? {
        let rest = netns.strip_prefix(&ours).unwrap_or_default();
        let number = rest.strip_prefix("node").is_some_and(|number| number.parse::<u8>().is_ok());
        if rest == "control" || number {
            run("ip", ["netns", "del", &netns])?;
        }
    }
    let host = layout.host_link();
    if finish(Command::new("ip").args(["link", "show", &host]))?.success {
        run("ip", ["link", "del", &host])?;
    }
    Ok(())
}

/// Takes the registry's address away, or gives it back: a registry that is down, seen from nodes and pods.
pub fn registry_reachable(layout: &Layout, reachable: bool) -> Result<()> {
    let control = layout.control_netns();
    if reachable {
        ip(&control, &format!("addr replace {}/24 dev nodes", layout.registry()))
    } else {
        ip(&control, &format!("addr del {}/24 dev nodes", layout.registry()))
    }
}

fn namespace(name: &str) -> Result<()> {
    if Path::new("/run/netns").join(name).exists() {
        // The file without the mount is what an interrupted `ip netns add` leaves.
        if within(name, &["true"]).is_ok() {
            return Ok(());
        }
        run("ip", ["netns", "del", name])?;
    }
    run("ip", ["netns", "add", name])?;
    within(
        name,
        &[
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
        ],
    )?;
    ip(name, "link set lo up")
}

fn existing() -> Result<Vec<String>> {
    let listed = run("ip", ["netns", "list"])?;
    Ok(listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn has_link(netns: &str, link: &str) -> Result<bool> {
    Ok(finish(Command::new("ip").args(["-n", netns, "link", "show", link]))?.success)
}

fn ip(netns: &str, words: &str) -> Result<()> {
    output(Command::new("ip").args(["-n", netns]).args(words.split(' '))).map(drop)
}

fn within(netns: &str, line: &[&str]) -> Result<String> {
    output(Command::new("nsenter").arg(format!("--net=/run/netns/{netns}")).arg("--").args(line))
}
