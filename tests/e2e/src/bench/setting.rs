//! Where it is measured: a cluster with one replica of the webhook, a policy, and a registry of our own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use zastava_crds::policy::ZastavaPolicy;

use super::client::{ApiServer, Direct};
use super::process::Process;
use super::registry::Registry;
use crate::error::{Error, Result};
use crate::product::Product;
use crate::release;
use crate::scene;
use crate::stage::Stage;
use crate::wait::{Seen, until};

/// Namespace in the policy's scope, and the policy.
const NAME: &str = "bench";
/// Namespace that no policy selects: the API server alone.
const ELSEWHERE: &str = "bench-elsewhere";
/// How long the installation may take.
const READY: Duration = Duration::from_mins(2);

/// All that cells measure with.
pub struct Setting {
    /// The registry.
    pub registry: Registry,
    /// Straight to the webhook.
    pub direct: Direct,
    /// Through the API server, in the policy's scope.
    pub selected: ApiServer,
    /// Through the API server, out of its scope.
    pub elsewhere: ApiServer,
    /// The webhook.
    pub webhook: Process,
}

impl Setting {
    /// Installs Zastava of this tree, and waits until the policy is in force.
    pub async fn make(stage: &Stage, address: Ipv4Addr) -> Result<Self> {
        let registry = Registry::start(address).await?;
        let product = Product::push(stage.registry())?;
        release::install(stage, &product).await?;
        let mut values = release::given(stage)?;
        values["admission"] = json!({"replicas": 1});
        values["registries"]["configured"] = json!([{"host": registry.host, "plainHttp": true}]);
        release::install_with(stage, &values).await?;

        let client = stage.client().await?;
        for name in [NAME, ELSEWHERE] {
            let labels = if name == NAME { json!({"bench": "yes"}) } else { json!({}) };
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
            apply(&Api::<Namespace>::all(client.clone()), name, &object).await?;
        }
        let policies = Api::<ZastavaPolicy>::all(client.clone());
        // What an earlier run left speaks of another registry and another key.
        if policies.get_opt(NAME).await?.is_some() {
            policies.delete(NAME, &DeleteParams::default()).await?;
        }
        let object = json!({"apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy", "metadata": {"name": NAME},
            "spec": {"mode": "Enforce", "match": {"namespaceSelector": {"matchLabels": {"bench": "yes"}}},
                "admission": {"signatures": [{"name": "release", "authorities": [{"key": {"pem": registry.public_key()?}}]}]}}});
        let applied = apply(&policies, NAME, &object).await?;
        let uid = applied.uid().unwrap_or_default();
        let pod = webhook(&client).await?;
        let ip: Ipv4Addr = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.as_deref()?.parse().ok())
            .ok_or_else(|| Error::Invalid("the webhook has no address".into()))?;
        let port = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|c| c.ports.iter().flatten());
        let port = port
            .filter(|port| port.name.as_deref() != Some("http"))
            .find_map(|port| u16::try_from(port.container_port).ok())
            .ok_or_else(|| Error::Invalid("the webhook has no port".into()))?;
        let ca = authority(&client).await?;
        Ok(Self {
            direct: Direct::new(SocketAddr::from((ip, port)), &ca, &uid)?,
            selected: ApiServer::new(&client, NAME),
            elsewhere: ApiServer::new(&client, ELSEWHERE),
            webhook: Process::of_pod("zastava-webhook", &pod.name_any())?,
            registry,
        })
    }
}

async fn apply<K>(api: &Api<K>, name: &str, object: &serde_json::Value) -> Result<K>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    Ok(api.patch(name, &PatchParams::apply("zastava-bench").force(), &Patch::Apply(object)).await?)
}

/// The one replica, when the policy is Ready and no other replica is left.
async fn webhook(client: &Client) -> Result<Pod> {
    scene::ready(client, NAME, READY).await?;
    release::rolled_out(client, release::NAMESPACE, "zastava-webhook", READY).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), release::NAMESPACE);
    until("one replica of the webhook is left", READY, async || {
        let list = pods.list(&ListParams::default().labels("app.kubernetes.io/component=webhook")).await?;
        let [pod] = &list.items[..] else { return Ok(Seen::NotYet(format!("{} pods", list.items.len()))) };
        Ok(Seen::There(pod.clone()))
    })
    .await
}

/// The certificates that vouch for the webhook, as the API server has them.
async fn authority(client: &Client) -> Result<Vec<u8>> {
    let configurations = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let webhooks = configurations.get("zastava").await?.webhooks.unwrap_or_default();
    let bundle = webhooks.into_iter().find_map(|webhook| webhook.client_config.ca_bundle);
    bundle.map(|bundle| bundle.0).ok_or_else(|| Error::Invalid("the webhook configuration has no caBundle".into()))
}
