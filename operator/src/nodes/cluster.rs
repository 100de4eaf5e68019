//! The cluster's nodes as the API server knows them: which of them could observe.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_core::watching;
use zastava_verify::image::{Platform, Platforms};

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// It takes pods: not cordoned, and its kubelet says that it is ready.
    pub usable: bool,
    /// When it last became ready, else when it was made.
    pub since: Option<Timestamp>,
    /// What it can run.
    pub platform: Option<Platform>,
}

type Nodes = Arc<BTreeMap<String, ClusterNode>>;

/// All nodes, kept up to date by one watch.
#[derive(Clone, Debug)]
pub struct ClusterNodes(watch::Receiver<Option<Nodes>>);

impl ClusterNodes {
    /// Starts the watch.
    pub fn start(client: &Client, token: &CancellationToken) -> Self {
        let (tx, rx) = watch::channel(None);
        tokio::spawn(token.clone().run_until_cancelled_owned(follow(Api::all(client.clone()), tx)));
        Self(rx)
    }

    /// The nodes now, by name; absent until they were read once.
    pub fn now(&self) -> Option<Nodes> {
        self.0.borrow().clone()
    }

    /// The platforms of all nodes: what an image must be proven for, as at admission.
    pub fn platforms(&self) -> Option<Platforms> {
        self.now().map(|nodes| Platforms::of(nodes.values().filter_map(|node| node.platform.clone())))
    }

    /// Waits for a change since the last call on this clone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn follow(api: Api<Node>, tx: watch::Sender<Option<Nodes>>) {
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(watching::pauses()));
    let (mut nodes, mut listed) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(node)) => {
                listed.insert(node.name_any(), cluster_node(&node));
                continue;
            }
            Ok(watcher::Event::InitDone) => nodes = std::mem::take(&mut listed),
            Ok(watcher::Event::Apply(node)) => {
                nodes.insert(node.name_any(), cluster_node(&node));
            }
            Ok(watcher::Event::Delete(node)) => {
                nodes.remove(&node.name_any());
            }
            Err(error) => {
                tracing::warn!(%error, "watch of nodes failed, trying again");
                continue;
            }
        }
        // A kubelet's heartbeats change nothing that is kept.
        tx.send_if_modified(|old| {
            let changed = old.as_deref() != Some(&nodes);
            if changed {
                *old = Some(Arc::new(nodes.clone()));
            }
            changed
        });
    }
}

fn cluster_node(node: &Node) -> ClusterNode {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    let since =
        ready.and_then(|ready| ready.last_transition_time.as_ref()).or(node.metadata.creation_timestamp.as_ref());
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    ClusterNode {
        usable: !cordoned && ready.is_some_and(|ready| ready.status == "True"),
        since: since.map(|time| time.0),
        platform: info
            .map(|info| Platform { os: info.operating_system.clone(), architecture: info.architecture.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_usable_when_it_is_ready_and_not_cordoned() {
        let usable = |spec: serde_json::Value, status: &str| {
            let conditions = [json!({"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"})];
            let node: Node = serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2025-01-01T00:00:00Z"}, "spec": spec, "status": {"conditions": conditions},
            }))
            .unwrap();
            let node = cluster_node(&node);
            assert_eq!(node.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
            node.usable
        };
        assert!(usable(json!({}), "True"));
        assert!(!usable(json!({"unschedulable": true}), "True"));
        assert!(!usable(json!({}), "Unknown"));
    }
}
