//! What is asked of the API server during a request: rare, by name, never a list.

use std::future::Future;

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{Api, Client, core::PartialObjectMeta};

use crate::policies::policy::Labels;

/// The API server did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The role does not allow it.
    #[error("{what} may not be read")]
    Forbidden {
        /// The object.
        what: String,
    },
    /// Anything else that is no answer.
    #[error("{what} could not be read: {why}")]
    Unavailable {
        /// The object.
        what: String,
        /// What happened.
        why: String,
    },
}

impl ClusterError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "forbidden",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// The API server, as requests see it. `None` is its word that there is no such object.
pub trait Cluster: Send + Sync + 'static {
    /// Labels of a namespace.
    fn namespace_labels(&self, name: &str) -> impl Future<Output = Result<Option<Labels>, ClusterError>> + Send;

    /// Names of the pull secrets of a service account.
    fn pull_secrets_of(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> impl Future<Output = Result<Option<Vec<String>>, ClusterError>> + Send;

    /// The docker config in a pull secret.
    fn pull_secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, ClusterError>> + Send;
}

impl Cluster for Client {
    async fn namespace_labels(&self, name: &str) -> Result<Option<Labels>, ClusterError> {
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.clone());
        let found = api.get_opt(name).await.map_err(|error| failed(format!("namespace {name}"), &error))?;
        Ok(found.map(|namespace| namespace.metadata.labels.unwrap_or_default()))
    }

    async fn pull_secrets_of(&self, namespace: &str, name: &str) -> Result<Option<Vec<String>>, ClusterError> {
        let api = Api::<ServiceAccount>::namespaced(self.clone(), namespace);
        let what = || format!("service account {namespace}/{name}");
        let found = api.get_opt(name).await.map_err(|error| failed(what(), &error))?;
        Ok(found.map(|account| account.image_pull_secrets.into_iter().flatten().map(|s| s.name).collect()))
    }

    async fn pull_secret(&self, namespace: &str, name: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        let api = Api::<Secret>::namespaced(self.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|error| failed(format!("secret {namespace}/{name}"), &error))?;
        Ok(found.and_then(docker_config))
    }
}

/// The docker config of a Secret, of either of its types.
pub fn docker_config(secret: Secret) -> Option<Vec<u8>> {
    let mut data = secret.data?;
    let config = data.remove(".dockerconfigjson").or_else(|| data.remove(".dockercfg"))?;
    Some(config.0)
}

fn failed(what: String, error: &kube::Error) -> ClusterError {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => ClusterError::Forbidden { what },
        error => ClusterError::Unavailable { what, why: error.to_string().chars().take(256).collect() },
    }
}
