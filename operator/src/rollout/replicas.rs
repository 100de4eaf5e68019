//! The webhook's replicas: which there are, and what they serve.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_core::watching;

use super::{build::Component, installation::Installation};
use crate::certificates::{Served, TrustBundle, probe};

const PORT: u16 = 9443;

/// A pod of the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// UID of the pod.
    pub uid: String,
    /// Its address, once it has one.
    pub address: Option<IpAddr>,
    /// The kubelet says that it is ready, and it is not going.
    pub ready: bool,
}

/// The webhook's replicas, kept up to date.
#[derive(Clone, Debug)]
pub struct Replicas(watch::Receiver<Arc<Vec<Replica>>>);

impl Replicas {
    /// Starts the watch.
    pub fn start(client: &Client, installation: &Installation, token: &CancellationToken) -> Self {
        let api: Api<Pod> = Api::namespaced(client.clone(), &installation.namespace);
        let labels: Vec<_> = Component::Webhook.selector().iter().map(|(k, v)| format!("{k}={v}")).collect();
        let config = watcher::Config::default().labels(&labels.join(","));
        let (tx, rx) = watch::channel(Arc::default());
        let (store, writer) = reflector::store();
        let events = watcher(api, config).backoff(watching::pauses()).reflect(writer);
        let follow = async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                    Ok(_) => {
                        let mut replicas: Vec<Replica> = store.state().iter().filter_map(|pod| replica(pod)).collect();
                        replicas.sort_by(|a, b| a.uid.cmp(&b.uid));
                        tx.send_if_modified(|old| {
                            let changed = **old != replicas;
                            *old = Arc::new(replicas);
                            changed
                        });
                    }
                    Err(error) => tracing::warn!(%error, "watch of the webhook's pods failed, trying again"),
                }
            }
        };
        tokio::spawn(token.clone().run_until_cancelled_owned(follow));
        Self(rx)
    }

    /// The replicas now.
    pub fn now(&self) -> Arc<Vec<Replica>> {
        self.0.borrow().clone()
    }

    /// Waits for a change since the last call.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn replica(pod: &Pod) -> Option<Replica> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    Some(Replica {
        uid: pod.metadata.uid.clone()?,
        address: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
        ready: ready && pod.metadata.deletion_timestamp.is_none(),
    })
}

/// What each replica serves, asked again only when something may have changed.
#[derive(Debug, Default)]
pub struct Probes {
    known: HashMap<String, Served>,
}

impl Probes {
    /// Asks each replica that is not known to serve `leaf`, all at once.
    pub async fn ask(&mut self, replicas: &[Replica], name: &str, bundle: &TrustBundle, leaf: Option<&str>) {
        self.known
            .retain(|uid, served| replicas.iter().any(|r| r.uid == *uid) && Some(served.fingerprint.as_str()) == leaf);
        let open = replicas.iter().filter(|r| !self.known.contains_key(&r.uid));
        let asked = open.filter_map(|r| Some((r.uid.clone(), SocketAddr::new(r.address?, PORT)))).map(
            |(uid, address)| async move {
                match probe(address, name, bundle).await {
                    Ok(served) => Some((uid, served)),
                    Err(error) => {
                        tracing::debug!(%error, category = error.category(), "webhook replica was not asked");
                        None
                    }
                }
            },
        );
        self.known.extend(futures::future::join_all(asked).await.into_iter().flatten());
    }

    /// What is known of a replica.
    pub fn of(&self, replica: &Replica) -> Option<&Served> {
        self.known.get(&replica.uid)
    }
}
