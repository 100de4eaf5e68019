//! What the installation's settings say about what is deployed, apart from every policy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use zastava_core::settings::{
    backend::BackendValues,
    operator::OperatorSettings,
    webhook::{IntakeSettings, WebhookSettings},
};

use super::build::{INTAKE_CA_FILE, INTAKE_TOKEN_FILE};

/// Requests that a webhook works on at once.
const CONCURRENCY: usize = 256;

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
    /// The backend.
    pub backend: BackendValues,
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
    /// Labels of its pods beside Zastava's own.
    pub pod_labels: BTreeMap<String, String>,
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
    pub runtime_sockets: Vec<String>,
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
    /// From the settings; `denied` are the networks that no registry may have.
    ///
    /// # Errors
    /// When the webhook's settings can't be expressed.
    pub fn new(settings: OperatorSettings, namespace: &str, denied: Vec<String>) -> Result<Self, serde_json::Error> {
        let OperatorSettings { tenant, cluster, exempt_namespaces, images, admission, observer, registries, backend } =
            settings;
        let mut exempt_namespaces = exempt_namespaces;
        exempt_namespaces.extend([namespace.to_owned(), observer.namespace.clone()]);
        exempt_namespaces.sort();
        exempt_namespaces.dedup();
        let mut installation = Self {
            namespace: namespace.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pull_policy: images.pull_policy,
            pull_secrets: images.pull_secrets,
            exempt_namespaces,
            webhook: WebhookInstallation {
                enabled: admission.enabled,
                image: images.webhook,
                replicas: admission.replicas,
                timeout_seconds: admission.timeout_seconds,
                settings: String::new(),
                pod_labels: admission.pod_labels,
                placement: Placement {
                    resources: admission.resources,
                    node_selector: admission.node_selector,
                    tolerations: admission.tolerations,
                    priority_class: admission.priority_class_name,
                },
            },
            observer: ObserverInstallation {
                namespace: observer.namespace,
                image: images.observer,
                runtime_sockets: observer.runtime_sockets,
                state_directory: observer.state_directory,
                placement: Placement {
                    resources: observer.resources,
                    node_selector: observer.node_selector,
                    tolerations: observer.tolerations,
                    priority_class: observer.priority_class_name,
                },
            },
            backend,
        };
        let webhook = WebhookSettings {
            namespace: namespace.to_owned(),
            exempt_namespaces: installation.exempt_namespaces.clone(),
            registries,
            denied_networks: denied,
            concurrency: CONCURRENCY,
            intake: IntakeSettings {
                url: format!("https://{}", installation.intake_name()),
                server_name: installation.intake_name(),
                ca_file: INTAKE_CA_FILE.to_owned(),
                token_file: INTAKE_TOKEN_FILE.to_owned(),
            },
            backend: installation.backend.settings(&tenant, &cluster),
        };
        // JSON is YAML, and always comes out the same.
        installation.webhook.settings = format!("{}\n", serde_json::to_string_pretty(&webhook)?);
        Ok(installation)
    }

    /// DNS name by which the API server verifies the webhook.
    pub fn webhook_name(&self) -> String {
        format!("zastava-webhook.{}.svc", self.namespace)
    }

    /// DNS name by which observers and webhooks verify the intake.
    pub fn intake_name(&self) -> String {
        format!("zastava-intake.{}.svc", self.namespace)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SETTINGS: &str = r#"{
        "tenant": "t", "cluster": "c", "exemptNamespaces": ["kube-system"],
        "images": {"webhook": "r.example/w:1", "observer": "r.example/o:1", "pullPolicy": "IfNotPresent"},
        "admission": {"enabled": true, "replicas": 2, "timeoutSeconds": 10, "priorityClassName": "", "resources": {}},
        "observer": {"namespace": "zastava-observer", "priorityClassName": "", "resources": {},
            "runtimeSockets": ["/run/containerd/containerd.sock", "/run/crio/crio.sock"], "stateDirectory": "/var/lib/zastava"},
        "registries": {"configured": [{"host": "r.example:5000", "plainHttp": true}]},
        "backend": {"url": "https://s.example", "project": "p", "auth": {"tokenSecret": {"name": "backend", "key": "word"}}}
    }"#;

    pub fn installation() -> Installation {
        let settings: OperatorSettings = serde_json::from_str(SETTINGS).unwrap();
        Installation::new(settings, "zastava-system", vec!["10.0.0.0/16".into()]).unwrap()
    }

    #[test]
    fn the_webhooks_settings_are_what_the_webhook_reads() {
        let installation = installation();
        let read: WebhookSettings = serde_json::from_str(&installation.webhook.settings).unwrap();
        assert_eq!(read.exempt_namespaces, ["kube-system", "zastava-observer", "zastava-system"]);
        assert_eq!(read.denied_networks, ["10.0.0.0/16"]);
        assert_eq!(read.intake.url, "https://zastava-intake.zastava-system.svc");
        assert_eq!(read.intake.token_file, "/var/run/zastava/intake-token/token");
        assert_eq!(read.registries.configured[0].host, "r.example:5000");
        let backend = read.backend.unwrap();
        assert_eq!((backend.tenant.as_str(), backend.project.as_str(), backend.cluster.as_str()), ("t", "p", "c"));
        assert_eq!(backend.token_file, "/var/run/zastava/backend/token");
        assert_eq!(backend.problems(), []);
    }
}
