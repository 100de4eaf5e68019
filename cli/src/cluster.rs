//! What is read from a cluster, and only where it is asked for: objects by name that policies refer to.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use zastava_admission::policies::keys::{Content, Source};

use crate::arguments::KeyArguments;

/// Where keys come from that no file gives.
pub enum Elsewhere {
    /// From nowhere: the message says how to give them.
    Nowhere,
    /// A cluster.
    Cluster {
        /// It.
        client: Box<Client>,
        /// Zastava's namespace in it.
        namespace: String,
    },
}

/// A cluster that can't be asked.
#[derive(Debug, thiserror::Error)]
#[error("--from-cluster: {0}")]
pub struct ClusterError(String);

impl Elsewhere {
    /// As the arguments say.
    pub async fn of(arguments: &KeyArguments) -> Result<Self, ClusterError> {
        if !arguments.from_cluster {
            return Ok(Self::Nowhere);
        }
        let options = KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
        let file = Kubeconfig::read().map_err(|error| ClusterError(error.to_string()))?;
        let config =
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| ClusterError(error.to_string()))?;
        let client = Client::try_from(config).map_err(|error| ClusterError(error.to_string()))?;
        Ok(Self::Cluster { client: Box::new(client), namespace: arguments.namespace.clone() })
    }

    /// What an object holds.
    pub async fn content(&self, source: &Source) -> Content {
        let (client, namespace) = match self {
            Self::Nowhere => {
                let how = "no file gives it: name one with --resource or --key-dir, or a cluster with --from-cluster";
                return Content::Unreadable(how.to_owned());
            }
            Self::Cluster { client, namespace } => (Client::clone(client), namespace),
        };
        let found = match source {
            Source::Secret(name) => {
                Api::<Secret>::namespaced(client, namespace).get_opt(name).await.map(Content::of_secret)
            }
            Source::ConfigMap(name) => {
                Api::<ConfigMap>::namespaced(client, namespace).get_opt(name).await.map(Content::of_config_map)
            }
        };
        found.unwrap_or_else(|error| Content::Unreadable(error.to_string().chars().take(256).collect()))
    }
}
