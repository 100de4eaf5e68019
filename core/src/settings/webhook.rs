//! The webhook's settings: the operator renders them into a ConfigMap, the webhook reads them once at start.

use serde::{Deserialize, Serialize};

use super::{Problem, Validate, backend::BackendSettings, registries::RegistriesSettings};

/// The webhook's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSettings {
    /// The release's namespace: where the serving certificate and the keys that policies name are.
    pub namespace: String,
    /// Namespaces that admission leaves alone, our own two included.
    #[serde(default)]
    pub exempt_namespaces: Vec<String>,
    /// Registries.
    #[serde(default)]
    pub registries: RegistriesSettings,
    /// Addresses that no registry may have: the API server's, the service range's.
    #[serde(default)]
    pub denied_networks: Vec<String>,
    /// Requests that are worked on at once; one more is answered as unknown.
    #[serde(default = "WebhookSettings::default_concurrency")]
    pub concurrency: usize,
    /// Where denials are told.
    pub intake: IntakeSettings,
    /// The backend; absent: none is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendSettings>,
}

impl WebhookSettings {
    fn default_concurrency() -> usize {
        256
    }
}

impl Validate for WebhookSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |code, field: &str, message: &str, hint: &str| {
            problems.push(Problem { code, field: field.into(), message: message.into(), hint: hint.into() });
        };
        if self.namespace.is_empty() {
            wrong("SURFACE_ENV_INVALID", "namespace", "is empty", "name the release's namespace");
        }
        if self.concurrency == 0 {
            wrong("SURFACE_ENV_INVALID", "concurrency", "is 0", "set 256");
        }
        if !self.intake.url.starts_with("https://") {
            wrong("SURFACE_ENV_MISSING_ENDPOINT", "intake.url", "is no https URL", "name the intake's service");
        }
        problems.extend(self.backend.iter().flat_map(BackendSettings::problems));
        problems.extend(self.registries.problems());
        problems
    }
}

/// How the intake is reached and trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntakeSettings {
    /// Such as `https://zastava-intake.zastava-system.svc`.
    pub url: String,
    /// Name in its certificate, whichever replica answers.
    pub server_name: String,
    /// File with the certificates that vouch for it.
    pub ca_file: String,
    /// File with the projected token for it.
    pub token_file: String,
}
