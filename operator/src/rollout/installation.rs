//! What the installation's settings say about what is deployed, apart from every policy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};

/// What the installation's settings say about what is deployed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Installation {
    /// The release's namespace.
    pub namespace: String,
    /// Version of this build, for labels.
    pub version: String,
    /// `IfNotPresent`, `Always` or `Never`.
    pub pull_policy: String,
    /// Image pull Secrets, in both namespaces.
    pub pull_secrets: Vec<String>,
    /// Namespaces that admission and observation leave alone, our own two included, sorted.
    pub exempt_namespaces: Vec<String>,
    /// The webhook.
    pub webhook: WebhookInstallation,
    /// The observer.
    pub observer: ObserverInstallation,
}

/// How the webhook is deployed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WebhookInstallation {
    /// False is the break-glass: nothing stands in the API server's way, whatever the policies say.
    pub enabled: bool,
    /// Image.
    pub image: String,
    /// Replicas.
    pub replicas: i32,
    /// Seconds that the API server waits for an answer, 1 to 30.
    pub timeout_seconds: i32,
    /// Its settings file, whole.
    pub settings: String,
    /// Where and with what it runs.
    pub placement: Placement,
}

/// How the observer is deployed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObserverInstallation {
    /// Its own namespace.
    pub namespace: String,
    /// Image.
    pub image: String,
    /// Socket of the container runtime on the nodes.
    pub runtime_socket: String,
    /// Where journal and rules are kept on the nodes.
    pub state_directory: String,
    /// Where and with what it runs.
    pub placement: Placement,
}

/// Where and with what pods run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// Requests and limits.
    pub resources: ResourceRequirements,
    /// Labels of nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Priority class; empty: the cluster's default.
    pub priority_class: String,
}

impl Installation {
    /// DNS name by which the API server verifies the webhook.
    pub fn webhook_name(&self) -> String {
        format!("zastava-webhook.{}.svc", self.namespace)
    }

    /// DNS name by which observers and webhooks verify the intake.
    pub fn intake_name(&self) -> String {
        format!("zastava-intake.{}.svc", self.namespace)
    }
}
