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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use zastava_admission::policies::keys::Entry;

    use super::*;

    /// An API server that has one Secret, and forbids the ConfigMap.
    fn cluster() -> Elsewhere {
        let answer = tower::service_fn(|request: Request<Body>| async move {
            let (status, body) = match request.uri().path() {
                "/api/v1/namespaces/zastava-system/secrets/cosign" => (
                    200,
                    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cosign"},
                        "data": {"cosign.pub": "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0="}}),
                ),
                "/api/v1/namespaces/zastava-system/configmaps/roots" => (
                    403,
                    json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403,
                        "message": "configmaps \"roots\" is forbidden"}),
                ),
                _ => (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})),
            };
            let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        });
        let client = Box::new(Client::new(answer, "default"));
        Elsewhere::Cluster { client, namespace: "zastava-system".to_owned() }
    }

    #[tokio::test]
    async fn objects_are_read_by_name_in_zastavas_namespace() {
        let cluster = cluster();
        let key = Entry::Key("-----BEGIN PUBLIC KEY-----".to_owned());
        let found = cluster.content(&Source::Secret("cosign".to_owned())).await;
        assert_eq!(found, Content::Entries(BTreeMap::from([("cosign.pub".to_owned(), key)])));
        assert_eq!(cluster.content(&Source::Secret("none".to_owned())).await, Content::Absent);
        let Content::Unreadable(why) = cluster.content(&Source::ConfigMap("roots".to_owned())).await else { panic!() };
        assert!(why.contains("forbidden"), "{why}");
    }
}
