//! A pod by its UID: from the index, and from the API server before anybody says that it was never seen.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use k8s_openapi::api::core::v1::Pod as Object;
use kube::{Api, Client};
use moka::sync::Cache;

use super::{Found, Pod, PodIndex};
use crate::finding::attribute::{PodSource, PodsUnavailable};

/// Reads of unknown pods in a second: the rest of the batches waits, for a node can make pods up.
const READS: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// UIDs that the API server did not know. A UID never comes into being after its pod has run, but a static pod's mirror may.
const MAX_UNKNOWN: u64 = 10_000;
const UNKNOWN_FOR: Duration = Duration::from_mins(10);

/// Looks pods up.
#[derive(Clone)]
pub struct PodLookup {
    client: Client,
    index: PodIndex,
    unknown: Cache<String, ()>,
    reads: Arc<DefaultDirectRateLimiter>,
}

impl PodLookup {
    /// Looks in `index` first.
    pub fn new(client: Client, index: PodIndex) -> Self {
        let unknown = Cache::builder().max_capacity(MAX_UNKNOWN).time_to_live(UNKNOWN_FOR).build();
        Self { client, index, unknown, reads: Arc::new(RateLimiter::direct(Quota::per_second(READS))) }
    }

    async fn ask(&self, node: &str, namespace: &str, name: &str, uid: &str) -> Result<Found, PodsUnavailable> {
        if self.unknown.contains_key(uid) {
            return Ok(Found::Never);
        }
        self.reads.until_ready().await;
        let api: Api<Object> = Api::namespaced(self.client.clone(), namespace);
        let object = match tokio::time::timeout(READ_TIMEOUT, api.get_opt(name)).await {
            Ok(Ok(object)) => object,
            // A name that no pod can have is refused by the API server, not merely unknown to it.
            Ok(Err(kube::Error::Api(status))) if (400..404).contains(&status.code) && status.code != 401 => None,
            Ok(Err(error)) => return Err(PodsUnavailable(error.to_string())),
            Err(_) => return Err(PodsUnavailable("no answer in time".to_owned())),
        };
        // The index may have caught up meanwhile, and knows of CronJobs.
        match self.index.find_on(node, uid) {
            Found::Live(pod) if pod.node.is_some() => return Ok(Found::Live(pod)),
            Found::Gone(pod) => return Ok(Found::Gone(pod)),
            Found::Live(_) | Found::Never => {}
        }
        let pod = object.and_then(|object| Pod::of(object, self.index.owners())).filter(|pod| pod.uid == uid);
        let Some(pod) = pod else {
            self.unknown.insert(uid.to_owned(), ());
            return Ok(Found::Never);
        };
        self.index.put(pod.clone());
        Ok(Found::Live(Arc::new(pod)))
    }
}

impl PodSource for PodLookup {
    async fn find(&self, node: &str, namespace: &str, name: &str, uid: &str) -> Result<Found, PodsUnavailable> {
        if !self.index.synced() {
            return Err(PodsUnavailable("pods have not been read yet".to_owned()));
        }
        match self.index.find_on(node, uid) {
            Found::Live(pod) if pod.node.is_some() => Ok(Found::Live(pod)),
            Found::Gone(pod) => Ok(Found::Gone(pod)),
            Found::Live(_) | Found::Never => self.ask(node, namespace, name, uid).await,
        }
    }

    fn is_over(&self, reporter: &str) -> bool {
        reporter
            .strip_prefix("pod:")
            .is_some_and(|uid| self.index.synced() && !matches!(self.index.find(uid), Found::Live(_)))
    }
}
