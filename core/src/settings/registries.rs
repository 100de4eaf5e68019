//! What is said of registries: one list, for webhook and operator alike.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Problem;

/// What is configured for registries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistriesSettings {
    /// Those that need more than an anonymous HTTPS connection with a publicly trusted certificate.
    #[serde(default)]
    pub configured: Vec<ConfiguredRegistry>,
    /// Tenants' pull secrets.
    #[serde(default)]
    pub pull_secrets: PullSecretsSettings,
}

/// One configured registry. Being configured, its address may be one that is refused otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfiguredRegistry {
    /// Host as references write it, with its port.
    pub host: String,
    /// Plain HTTP instead of TLS.
    #[serde(default)]
    pub plain_http: bool,
    /// Certificates (PEM) to trust for it besides the system's; empty: none.
    #[serde(default)]
    pub ca: String,
    /// Secret of type `kubernetes.io/dockerconfigjson` in the release's namespace; empty: anonymous.
    #[serde(default)]
    pub pull_secret: String,
    /// `host[:port][/path]` that is asked instead of this host, and always; empty: none. How the mirror is reached is
    /// said in an entry of its own.
    #[serde(default)]
    pub mirror: String,
    /// The cloud whose workload identity is exchanged for credentials, besides those of `pull_secret`; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CloudCredentials>,
}

/// A cloud that gives credentials for its registries to workloads it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CloudCredentials {
    /// Amazon ECR, by web identity, pod identity or keys in the environment.
    Ecr,
    /// Google Artifact Registry and gcr.io, by the metadata server.
    Gar,
    /// Azure Container Registry, by workload identity.
    Acr,
}

/// Whose pull secrets may be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullSecretsSettings {
    /// Namespaces, each with a Role of its own.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

impl RegistriesSettings {
    /// Everything that is wrong, in the order of the entries.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut hosts = BTreeSet::new();
        for (index, entry) in self.configured.iter().enumerate() {
            let mut wrong = |field: &str, message: &str, hint: &str| {
                let field = format!("registries.configured[{index}].{field}");
                let message = format!("{} {message}", entry.host);
                problems.push(Problem { code: "SURFACE_ENV_INVALID", field, message, hint: hint.into() });
            };
            if !hosts.insert(&entry.host) {
                wrong("host", "is there twice", "keep one entry a host");
            }
            if entry.credentials.is_some() && entry.plain_http {
                wrong("credentials", "has credentials of a cloud, and plainHttp", "remove plainHttp");
            }
            if entry.mirror.is_empty() {
                continue;
            }
            if entry.mirror.contains("://") || entry.mirror.starts_with('/') || entry.mirror.ends_with('/') {
                wrong("mirror", "has a mirror that is no host", "write it as host:port/path, without a scheme");
            }
            // The host itself is never asked then, so that what is said of it would be ignored.
            if entry.plain_http || !entry.ca.is_empty() || entry.credentials.is_some() {
                let hint = "move them to an entry of the mirror's host";
                wrong("mirror", "has a mirror, and plainHttp, ca or credentials beside it", hint);
            }
            let host = entry.mirror_host();
            if self.configured.iter().any(|other| other.host == host && !other.mirror.is_empty()) {
                wrong("mirror", "has a mirror that is mirrored itself", "name the last one");
            }
        }
        problems
    }
}

impl ConfiguredRegistry {
    /// The mirror without its path.
    fn mirror_host(&self) -> &str {
        self.mirror.split('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(entries: &[(&str, &str, bool)]) -> String {
        let configured = entries.iter().map(|(host, mirror, plain_http)| ConfiguredRegistry {
            host: (*host).to_owned(),
            mirror: (*mirror).to_owned(),
            plain_http: *plain_http,
            ..ConfiguredRegistry::default()
        });
        let settings = RegistriesSettings { configured: configured.collect(), ..RegistriesSettings::default() };
        settings.problems().iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_mirror_with_an_entry_of_its_own_is_fine() {
        assert_eq!(said(&[("docker.io", "cache.example:5000/hub", false), ("cache.example:5000", "", true)]), "");
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (entries, expected) in [
            (&[("a.example", "", false), ("a.example", "", false)][..], "is there twice"),
            (&[("a.example", "https://b.example", false)], "without a scheme"),
            (&[("a.example", "b.example/", false)], "is no host"),
            (&[("a.example", "b.example", true)], "move them to an entry of the mirror's host"),
            (&[("a.example", "b.example/x", false), ("b.example", "c.example", false)], "mirrored itself"),
        ] {
            let said = said(entries);
            assert!(said.contains(expected) && said.contains("registries.configured["), "{entries:?}: {said}");
        }
    }
}
