//! Whether a policy speaks for a pod's namespace. Labels that are not known are never "not matched".

use std::time::Duration;

use kube::core::{Selector, SelectorExt};
use tokio::time::{Instant, timeout_at};

use crate::{
    cluster::Cluster,
    policies::{policy::Labels, snapshot::World},
};

/// How long the API server is asked for a namespace at most.
const LOOKUP: Duration = Duration::from_secs(2);

/// Whether a policy speaks for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scoped {
    /// It does.
    In,
    /// It does not, by labels that are current.
    Out,
    /// It can't be said, and why.
    Unknown(String),
}

/// Compares with the labels in the cache, and where these don't match with those the API server has now: its own
/// selection, made a moment ago, may rest on newer labels than the cache holds.
pub async fn of_namespace(
    selector: Option<&Selector>,
    namespace: &str,
    world: &World,
    cluster: &impl Cluster,
    deadline: Instant,
) -> Scoped {
    let Some(selector) = selector else { return Scoped::In };
    if world.namespace_labels(namespace).is_some_and(|labels| selector.matches(&labels)) {
        return Scoped::In;
    }
    match current_labels(namespace, cluster, deadline).await {
        Ok(labels) if selector.matches(&labels) => Scoped::In,
        Ok(_) => Scoped::Out,
        Err(why) => Scoped::Unknown(why),
    }
}

/// The labels of a namespace as the API server has them now, or why they can't be had.
pub async fn current_labels(namespace: &str, cluster: &impl Cluster, deadline: Instant) -> Result<Labels, String> {
    let until = deadline.min(Instant::now() + LOOKUP);
    match timeout_at(until, cluster.namespace_labels(namespace)).await {
        Ok(Ok(Some(labels))) => Ok(labels),
        Ok(Ok(None)) => Err(format!("namespace {namespace} is not known to the API server yet")),
        Ok(Err(error)) => {
            tracing::warn!(category = error.category(), %error, "a namespace's labels can't be read");
            Err(error.to_string())
        }
        Err(_) => Err(format!("the labels of namespace {namespace} could not be read in time")),
    }
}

/// The labels of a namespace as the cache has them, or the API server where it has not.
pub async fn labels(namespace: &str, world: &World, cluster: &impl Cluster, deadline: Instant) -> Option<Labels> {
    if let Some(labels) = world.namespace_labels(namespace) {
        return Some(labels);
    }
    let until = deadline.min(Instant::now() + LOOKUP);
    timeout_at(until, cluster.namespace_labels(namespace)).await.ok()?.ok()?
}
