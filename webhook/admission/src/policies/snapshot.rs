//! What a decision reads: policies, platforms and namespaces, as of one moment and without a lock.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use zastava_verify::image::Platforms;

use super::policy::{Labels, Policy, Standing};

/// How long a request waits for a policy that the API server knows and this replica does not yet.
const NEWS: Duration = Duration::from_secs(1);

/// Policies and platforms as of one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// By UID.
    pub policies: HashMap<String, Standing>,
    /// UIDs of policies that were deleted while this replica ran: their webhook entry may live a moment longer.
    pub deleted: HashSet<String>,
    /// Platforms of the cluster's nodes.
    pub platforms: Platforms,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { policies: HashMap::new(), deleted: HashSet::new(), platforms: Platforms::Any }
    }
}

/// What this replica knows of a policy.
#[derive(Clone, Debug)]
pub enum Known {
    /// It was read.
    Policy(Standing),
    /// It is gone.
    Deleted,
    /// It was never seen.
    Never,
}

impl Snapshot {
    fn known(&self, uid: &str) -> Known {
        match self.policies.get(uid) {
            Some(standing) => Known::Policy(standing.clone()),
            None if self.deleted.contains(uid) => Known::Deleted,
            None => Known::Never,
        }
    }

    /// Policies that decide.
    pub fn in_force(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values().filter_map(|standing| match standing {
            Standing::InForce(policy) => Some(policy),
            Standing::Skipped { .. } => None,
        })
    }
}

/// The world as decisions see it. Watches write it, requests read it.
#[derive(Debug)]
pub struct World {
    snapshot: ArcSwap<Snapshot>,
    news: watch::Sender<u64>,
    namespaces: Store<PartialObjectMeta<Namespace>>,
}

impl World {
    /// Over a store of namespaces, with no policy yet.
    pub fn new(namespaces: Store<PartialObjectMeta<Namespace>>) -> Self {
        Self { snapshot: ArcSwap::default(), news: watch::Sender::new(0), namespaces }
    }

    /// The latest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a new snapshot in place.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.news.send_modify(|count| *count += 1);
    }

    /// Tells of every new snapshot.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// What is known of a policy; one that was never seen is waited for, a moment at most: its watch may be behind the
    /// API server's.
    pub async fn policy(&self, uid: &str, deadline: Instant) -> Known {
        let mut news = self.news.subscribe();
        let until = deadline.min(Instant::now() + NEWS);
        loop {
            let known = self.snapshot.load().known(uid);
            if !matches!(known, Known::Never)
                || !matches!(tokio::time::timeout_at(until, news.changed()).await, Ok(Ok(())))
            {
                return known;
            }
        }
    }

    /// What this replica holds, for a person who looks at `/status`; no secret is in it.
    pub fn status(&self, settings: &str, certificate: bool) -> Value {
        let snapshot = self.snapshot();
        let mut policies: Vec<_> = snapshot.policies.values().map(Standing::status).collect();
        policies.sort_by_key(|policy| policy["name"].to_string());
        json!({
            "component": "webhook",
            "version": env!("CARGO_PKG_VERSION"),
            "settings": settings,
            "certificate": certificate,
            "policies": policies,
        })
    }

    /// Labels of a namespace, if it was seen.
    pub fn namespace_labels(&self, name: &str) -> Option<Labels> {
        let namespace = self.namespaces.get(&ObjectRef::new(name))?;
        Some(namespace.metadata.labels.clone().unwrap_or_default())
    }
}
