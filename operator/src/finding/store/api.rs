//! Findings in the API server.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use futures::StreamExt as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_core::watching;
use zastava_crds::finding::RuntimeFinding;

use super::{Cache, FindingStore, StoreError};
use crate::{
    STATUS_MANAGER,
    finding::FindingMetrics,
    leader::{Claim, Leadership},
};

/// Writes of findings in a second, all together: what etcd never notices.
const WRITES: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);
/// Writes that may come at once.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);
/// A read that takes longer is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Findings in the API server. Every write takes the leader's claim at its moment, and waits for its turn.
#[derive(Clone)]
pub struct ApiStore {
    client: Client,
    leadership: Leadership,
    cache: Cache,
    turns: Arc<DefaultDirectRateLimiter>,
    metrics: FindingMetrics,
}

impl ApiStore {
    /// Starts the watch of findings.
    pub fn start(client: &Client, leadership: Leadership, metrics: FindingMetrics, token: &CancellationToken) -> Self {
        let cache = Cache::default();
        let follow = follow(client.clone(), cache.clone(), metrics.clone());
        tokio::spawn(token.clone().run_until_cancelled_owned(follow));
        let turns = Arc::new(RateLimiter::direct(Quota::per_second(WRITES).allow_burst(BURST)));
        Self { client: client.clone(), leadership, cache, turns, metrics }
    }

    /// Wakes at every change of a finding.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.cache.changes()
    }

    fn api(&self, namespace: &str) -> Api<RuntimeFinding> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Waits for this write's turn, then takes the claim: in this order, or the claim could be old when it is used.
    async fn turn(&self) -> Result<Claim, StoreError> {
        self.turns.until_ready().await;
        self.leadership.claim().map_err(|_| StoreError::NotLeading)
    }

    async fn within<T>(
        &self,
        claim: Claim,
        write: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, StoreError> {
        let result = match tokio::time::timeout_at(claim.deadline(), write).await {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) => Err(StoreError::Unavailable("no answer before the leader's deadline".to_owned())),
        };
        self.metrics.wrote(result.as_ref().map_or_else(StoreError::category, |_| "ok"));
        result
    }
}

impl FindingStore for ApiStore {
    async fn get(&self, namespace: &str, name: &str, fresh: bool) -> Result<Option<RuntimeFinding>, StoreError> {
        if !fresh && let Some(finding) = self.cache.get(namespace, name) {
            return Ok(Some((*finding).clone()));
        }
        if !fresh {
            return Ok(None);
        }
        let api = self.api(namespace);
        let found = match tokio::time::timeout(READ_TIMEOUT, api.get_opt(name)).await {
            Ok(found) => found.map_err(|error| classify(&error))?,
            Err(_) => return Err(StoreError::Unavailable("no answer to a read in time".to_owned())),
        };
        match &found {
            Some(finding) => self.cache.put(finding.clone()),
            None => self.cache.remove(namespace, name),
        }
        Ok(found)
    }

    async fn create(&self, finding: &RuntimeFinding) -> Result<RuntimeFinding, StoreError> {
        let api = self.api(&finding.namespace().unwrap_or_default());
        let params = PostParams { field_manager: Some(crate::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let claim = self.turn().await?;
        let created = self.within(claim, api.create(&params, finding)).await.map_err(|error| match error {
            // On a create both mean the same: there is no such namespace.
            StoreError::Missing => StoreError::NamespaceGone,
            StoreError::Conflict => StoreError::Exists,
            error => error,
        })?;
        self.cache.put(created.clone());
        Ok(created)
    }

    async fn write_status(&self, finding: &RuntimeFinding) -> Result<(), StoreError> {
        let api = self.api(&finding.namespace().unwrap_or_default());
        let params = PostParams { field_manager: Some(STATUS_MANAGER.to_owned()), ..PostParams::default() };
        let claim = self.turn().await?;
        let written = self.within(claim, api.replace_status(&finding.name_any(), &params, finding)).await?;
        self.cache.put(written);
        Ok(())
    }

    async fn delete(&self, finding: &RuntimeFinding) -> Result<(), StoreError> {
        let (namespace, name) = (finding.namespace().unwrap_or_default(), finding.name_any());
        let preconditions = Preconditions { uid: finding.uid(), resource_version: finding.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api = self.api(&namespace);
        let claim = self.turn().await?;
        let deleted = self.within(claim, async { api.delete(&name, &params).await.map(|_| ()) }).await;
        match deleted {
            Ok(()) | Err(StoreError::Missing) => {
                self.cache.remove(&namespace, &name);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn count(&self, namespace: &str, node: Option<&str>) -> usize {
        self.cache.count(namespace, node)
    }

    fn all(&self) -> Vec<Arc<RuntimeFinding>> {
        self.cache.all()
    }
}

fn classify(error: &kube::Error) -> StoreError {
    match error {
        kube::Error::Api(status) if status.is_already_exists() => StoreError::Exists,
        kube::Error::Api(status) if status.is_conflict() => StoreError::Conflict,
        kube::Error::Api(status) if status.is_not_found() => StoreError::Missing,
        kube::Error::Api(status) if status.is_forbidden() && namespace_terminates(status) => StoreError::NamespaceGone,
        kube::Error::Api(status) if status.is_invalid() => StoreError::Invalid(status.message.clone()),
        error => StoreError::Unavailable(error.to_string()),
    }
}

/// The API server forbids a create in a namespace that is being deleted, and says so by a cause.
fn namespace_terminates(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
        || status.message.contains("because it is being terminated")
}

async fn follow(client: Client, cache: Cache, metrics: FindingMetrics) {
    let api: Api<RuntimeFinding> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(watching::pauses()));
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(finding)) => listed.push(finding),
            Ok(watcher::Event::InitDone) => cache.replace(std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(finding)) => cache.put(finding),
            Ok(watcher::Event::Delete(finding)) => {
                cache.remove(&finding.namespace().unwrap_or_default(), &finding.name_any());
            }
            Err(error) => {
                tracing::warn!(%error, "watch of findings failed, trying again");
                continue;
            }
        }
        metrics.findings(cache.all().len());
    }
}
