//! The operator's settings: the chart renders them from its values into a ConfigMap.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use serde::Deserialize;

use super::{
    Problem, Validate,
    backend::{BackendSettings, BackendValues},
    registries::RegistriesSettings,
};

/// The operator's settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorSettings {
    /// Names the tenant in every event and decision.
    pub tenant: String,
    /// Names the cluster there.
    pub cluster: String,
    /// Namespaces that admission and observation leave alone, our own two included.
    pub exempt_namespaces: Vec<String>,
    /// What is deployed.
    pub images: ImagesSettings,
    /// The webhook.
    pub admission: AdmissionSettings,
    /// The observer.
    pub observer: ObserverSettings,
    /// Registries.
    #[serde(default)]
    pub registries: RegistriesSettings,
    /// The backend.
    #[serde(default)]
    pub backend: BackendValues,
}

/// What is deployed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImagesSettings {
    /// Reference of the webhook's image.
    pub webhook: String,
    /// Reference of the observer's image.
    pub observer: String,
    /// `IfNotPresent`, `Always` or `Never`.
    pub pull_policy: String,
    /// Image pull Secrets, in both namespaces.
    #[serde(default)]
    pub pull_secrets: Vec<String>,
}

/// How the webhook is deployed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdmissionSettings {
    /// False is the break-glass.
    pub enabled: bool,
    /// Replicas.
    pub replicas: i32,
    /// Seconds that the API server waits for an answer, 1 to 30.
    pub timeout_seconds: i32,
    /// Priority class; empty: the cluster's default.
    pub priority_class_name: String,
    /// Requests and limits.
    pub resources: ResourceRequirements,
    /// Labels of nodes.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Labels of its pods beside Zastava's own, by which a cloud knows them.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
}

/// How the observer is deployed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObserverSettings {
    /// Its own namespace.
    pub namespace: String,
    /// Priority class; empty: the cluster's default.
    pub priority_class_name: String,
    /// Requests and limits.
    pub resources: ResourceRequirements,
    /// Labels of nodes.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Where a container runtime may listen on the nodes.
    pub runtime_sockets: Vec<String>,
    /// Where journal and rules are kept on the nodes.
    pub state_directory: String,
}

impl Validate for OperatorSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |code, field: &str, message: &str, hint: &str| {
            problems.push(Problem { code, field: field.into(), message: message.into(), hint: hint.into() });
        };
        for (field, value) in [("tenant", &self.tenant), ("cluster", &self.cluster)] {
            if value.is_empty() {
                wrong("SURFACE_TENANT_MISMATCH", field, "is empty", "set it in the chart's values");
            }
        }
        for (field, value) in [("images.webhook", &self.images.webhook), ("images.observer", &self.images.observer)] {
            if value.is_empty() {
                wrong("SURFACE_ENV_MISSING_ENDPOINT", field, "is empty", "set image in the chart's values");
            }
        }
        if !(1..=30).contains(&self.admission.timeout_seconds) {
            wrong("SURFACE_ENV_INVALID", "admission.timeoutSeconds", "is not between 1 and 30", "set 10");
        }
        if self.admission.replicas < 1 {
            let hint = "set 2, or admission.enabled to false";
            wrong("SURFACE_ENV_INVALID", "admission.replicas", "is below 1", hint);
        }
        if !self.observer.state_directory.starts_with('/') {
            let field = "observer.stateDirectory";
            wrong("SURFACE_ENV_INVALID", field, "is no absolute path", "write the path on the node");
        }
        let sockets = &self.observer.runtime_sockets;
        if sockets.is_empty() || sockets.iter().any(|socket| !socket.starts_with('/') || socket.contains(':')) {
            let hint = "write paths of sockets on the node, such as /run/containerd/containerd.sock";
            wrong("SURFACE_ENV_INVALID", "observer.runtimeSockets", "is no list of absolute paths", hint);
        }
        problems.extend(self.registries.problems());
        problems.extend(self.backend.settings(&self.tenant, &self.cluster).iter().flat_map(BackendSettings::problems));
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::settings::{SettingsError, load};

    const GOOD: &str = "
tenant: acme
cluster: c1
exemptNamespaces: [kube-system]
images: {webhook: 'r.example/w:1', observer: 'r.example/o:1', pullPolicy: IfNotPresent, pullSecrets: []}
admission: {enabled: true, replicas: 2, timeoutSeconds: 10, priorityClassName: '', resources: {requests: {cpu: 50m}},
  nodeSelector: {}, tolerations: [], podLabels: {azure.workload.identity/use: 'true'}}
observer: {namespace: zastava-observer, priorityClassName: '', resources: {}, nodeSelector: {},
  tolerations: [{operator: Exists}], runtimeSockets: [/run/containerd/containerd.sock], stateDirectory: /var/lib/zastava}
registries: {configured: [{host: 'r.example:5000', plainHttp: true, ca: '', pullSecret: '', mirror: ''}], pullSecrets: {namespaces: []}}
backend: {url: 'https://scanner.example', project: shop, ca: '', auth: {tokenSecret: {name: backend, key: token}, certificateSecret: ''}}
";

    fn read(text: &str) -> Result<OperatorSettings, SettingsError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        load(file.path())
    }

    #[test]
    fn what_the_chart_renders_is_read() {
        let settings = read(GOOD).unwrap();
        assert_eq!((settings.tenant.as_str(), settings.admission.replicas), ("acme", 2));
        assert!(settings.registries.configured[0].plain_http);
        let backend = settings.backend.settings("acme", "c1").unwrap();
        assert_eq!((backend.token_file.as_str(), backend.key_file.as_str()), ("/var/run/zastava/backend/token", ""));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let bad = GOOD
            .replace("acme", "''")
            .replace("timeoutSeconds: 10", "timeoutSeconds: 31")
            .replace("project: shop", "project: ''");
        let said = read(&bad).unwrap_err().to_string();
        assert!(["tenant", "timeoutSeconds", "backend.project"].iter().all(|field| said.contains(field)), "{said}");
    }

    #[test]
    fn an_unknown_setting_is_refused_by_its_name() {
        let said = read(&format!("{GOOD}tenannt: x\n")).unwrap_err().to_string();
        assert!(said.contains("tenannt"), "{said}");
    }
}
