//! One process of one container, to be killed by its id on this machine.

use std::fs;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process};
use zastava_e2e::release::NAMESPACE;

use crate::ground::Told;

/// The first process of a pod's first container. Only nodes of the harness have theirs on this machine.
pub struct Victim {
    pid: Pid,
    /// The pod's name.
    pub pod: String,
}

impl Victim {
    /// The leading operator.
    pub async fn leader(client: &Client) -> anyhow::Result<Self> {
        let name = leader(client).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        Self::of(&pods.get(&name).await?)
    }

    /// The observer of the node on which a pod runs.
    pub async fn observer_of(client: &Client, namespace: &str, pod: &str) -> anyhow::Result<Self> {
        Self::of(&observer_of(client, namespace, pod).await?)
    }

    fn of(pod: &Pod) -> anyhow::Result<Self> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
        let id = status
            .and_then(|status| status.container_id.as_deref())
            .and_then(|id| id.split_once("://"))
            .context("no container")?
            .1;
        let mut processes: Vec<i32> = fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|process: &i32| {
                fs::read_to_string(format!("/proc/{process}/cgroup")).is_ok_and(|cgroup| cgroup.contains(id))
            })
            .collect();
        processes.sort_unstable();
        let pid = processes
            .first()
            .and_then(|pid| Pid::from_raw(*pid))
            .with_context(|| format!("{name} has no process here"))?;
        Ok(Self { pid, pod: name })
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn stop(&self) -> Told {
        kill_process(self.pid, Signal::STOP).with_context(|| format!("{} was gone before it stopped", self.pod))
    }

    /// SIGKILL.
    pub fn kill(&self) -> Told {
        kill_process(self.pid, Signal::KILL).with_context(|| format!("{} was gone before the blow", self.pod))
    }
}

/// Name of the pod that leads.
pub async fn leader(client: &Client) -> anyhow::Result<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    leases.get("zastava-operator").await?.spec.and_then(|spec| spec.holder_identity).context("nobody leads")
}

/// The pod of the observer of the node on which a pod runs.
pub async fn observer_of(client: &Client, namespace: &str, pod: &str) -> anyhow::Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let node = pods.get(pod).await?.spec.and_then(|spec| spec.node_name).context("the pod is on no node")?;
    let mut found = observers(client).await?.into_iter();
    found
        .find(|observer| observer.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&node))
        .context("no observer there")
}

/// The pods of all observers.
pub async fn observers(client: &Client) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "zastava-observer");
    let labels = ListParams::default().labels("app.kubernetes.io/component=observer");
    Ok(pods.list(&labels).await?.items)
}
