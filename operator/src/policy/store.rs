//! All policies, kept up to date by one watch that every room reads.

use std::sync::Arc;

use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_core::watching;
use zastava_crds::policy::ZastavaPolicy;

/// All policies.
#[derive(Clone, Debug)]
pub struct Policies {
    store: reflector::Store<ZastavaPolicy>,
    changes: watch::Receiver<u64>,
}

impl Policies {
    /// Starts the watch.
    pub fn start(client: &Client, token: &CancellationToken) -> Self {
        let (store, writer) = reflector::store();
        let (tx, changes) = watch::channel(0);
        let api: Api<ZastavaPolicy> = Api::all(client.clone());
        let events = watcher(api, watcher::Config::default()).backoff(watching::pauses()).reflect(writer);
        let follow = async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                    Ok(_) => tx.send_modify(|n| *n += 1),
                    Err(error) => tracing::warn!(%error, "watch of policies failed, trying again"),
                }
            }
        };
        tokio::spawn(token.clone().run_until_cancelled_owned(follow));
        Self { store, changes }
    }

    /// All of them, sorted by name.
    pub fn all(&self) -> Vec<Arc<ZastavaPolicy>> {
        let mut policies = self.store.state();
        policies.sort_by_key(|policy| policy.name_any());
        policies
    }

    /// Waits until they have been read for the first time. Not by the store, which wakes only one of those who wait.
    pub async fn synced(&self) {
        if self.changes.clone().wait_for(|changes| *changes > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a change, of a status too, since the last call on this clone.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
