//! Images in scope that no policy selects.

use kube::core::SelectorExt;
use tokio::{sync::OnceCell, time::Instant};
use zastava_verify::image::ImageReference;

use super::scope;
use crate::{
    cluster::Cluster,
    policies::{policy::Labels, snapshot::Snapshot},
    review::request::Workload,
};

/// Whether any policy selects an image of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// One does, and answers for the image.
    BySomebody,
    /// None does.
    ByNobody,
    /// It can't be said, and why.
    Unknown(String),
}

/// All policies in force, as one workload sees them.
#[derive(Debug)]
pub struct Others<'a, C> {
    workload: &'a Workload,
    snapshot: &'a Snapshot,
    cluster: &'a C,
    deadline: Instant,
    labels: OnceCell<Result<Labels, String>>,
}

impl<'a, C: Cluster> Others<'a, C> {
    /// Looks nothing up yet.
    pub fn new(workload: &'a Workload, snapshot: &'a Snapshot, cluster: &'a C, deadline: Instant) -> Self {
        Self { workload, snapshot, cluster, deadline, labels: OnceCell::new() }
    }

    /// Whether any policy selects `image`. A namespace's labels are the API server's of now: by these it chose whom to
    /// ask, and older ones could name a policy that was never asked.
    pub async fn select(&self, image: &ImageReference) -> Selected {
        let scopes = || self.snapshot.in_force().map(|policy| &policy.scope);
        let speaking = || scopes().filter(|scope| scope.has_pod(&self.workload.labels) && scope.has_image(image));
        if speaking().next().is_none() {
            return Selected::ByNobody;
        }
        if speaking().any(|scope| scope.namespaces.is_none()) {
            return Selected::BySomebody;
        }
        let namespace = &self.workload.namespace;
        let labels = self.labels.get_or_init(|| scope::current_labels(namespace, self.cluster, self.deadline)).await;
        match labels {
            Ok(labels) if speaking().any(|scope| scope.namespaces.as_ref().is_some_and(|s| s.matches(labels))) => {
                Selected::BySomebody
            }
            Ok(_) => Selected::ByNobody,
            Err(why) => Selected::Unknown(why.clone()),
        }
    }
}
