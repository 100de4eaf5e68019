//! Verdicts ahead of requests: before this replica is ready, of what the nodes have already; afterwards at each change
//! of a policy.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_admission::{
    cluster::Cluster,
    engine::Engine,
    server::app::App,
    warm::{Recent, Warm},
};

/// How long readiness waits for it: a slow registry must not keep a replica away.
const BUDGET: Duration = Duration::from_secs(10);
/// Nodes of one page: each names up to 50 images.
const PAGE: u32 = 50;
/// Pages at most: more images than are remembered.
const MAX_PAGES: usize = 40;

/// What has to be read before the first verdict is worth making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Policies and their keys.
    pub policies: bool,
    /// The nodes' platforms.
    pub nodes: bool,
    /// Credentials of configured registries.
    pub credentials: bool,
}

impl Read {
    /// All of it.
    pub fn is_whole(self) -> bool {
        self.policies && self.nodes && self.credentials
    }
}

/// Runs until `token` is cancelled; `ready` is called once.
pub async fn run<E: Engine, C: Cluster>(
    client: Client,
    app: Arc<App<E, C>>,
    mut read: watch::Receiver<Read>,
    ready: impl FnOnce() + Send + 'static,
    token: CancellationToken,
) {
    let work = async {
        if read.wait_for(|read| (*read).is_whole()).await.is_err() {
            return;
        }
        let mut news = app.world.news();
        let mut warm = Warm::default();
        let (verdicts, in_time) = {
            let first = async {
                of_nodes(&client, &app.recent).await;
                warm.up(&app.engine, &app.verdicts, &app.world.snapshot(), &app.recent, &app.credentials.configured())
                    .await
            };
            tokio::pin!(first);
            let early = tokio::time::timeout(BUDGET, &mut first).await;
            ready();
            match early {
                Ok(verdicts) => (verdicts, true),
                Err(_) => (first.await, false),
            }
        };
        tracing::info!(verdicts, inTime = in_time, "warm");
        while news.changed().await.is_ok() {
            let snapshot = app.world.snapshot();
            let verdicts =
                warm.up(&app.engine, &app.verdicts, &snapshot, &app.recent, &app.credentials.configured()).await;
            if verdicts > 0 {
                tracing::info!(verdicts, "policies or platforms changed, recent images were verified again");
            }
        }
    };
    token.run_until_cancelled(work).await;
}

/// The images that nodes have: what runs is among them, and no right to read pods is needed.
async fn of_nodes(client: &Client, recent: &Recent) {
    let api = Api::<Node>::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    for _ in 0..MAX_PAGES {
        let nodes = match api.list(&page).await {
            Ok(nodes) => nodes,
            Err(error) => return tracing::warn!(%error, "the nodes' images can't be read, nothing is verified ahead"),
        };
        for name in nodes.items.iter().flat_map(images) {
            if let Ok(image) = name.parse() {
                recent.saw(image);
            }
        }
        match nodes.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => page = page.continue_token(&more),
            None => return,
        }
    }
}

fn images(node: &Node) -> impl Iterator<Item = &str> {
    let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
    images.flat_map(|image| image.names.iter().flatten()).map(String::as_str).filter(|name| name.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_a_part_is_missing_for_is_not_worth_making() {
        let whole = Read { policies: true, nodes: true, credentials: true };
        assert!(whole.is_whole());
        for part in
            [Read { policies: false, ..whole }, Read { nodes: false, ..whole }, Read { credentials: false, ..whole }]
        {
            assert!(!part.is_whole(), "{part:?}");
        }
    }
}
