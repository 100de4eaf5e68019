//! The backend: where it is, for whom it is asked, and what proves who asks.

use http::Uri;
use serde::{Deserialize, Serialize};

use super::Problem;

/// Where the Secrets of the backend are mounted.
pub const BACKEND_FILES: &str = "/var/run/zastava/backend";
/// Name of the token's file there.
pub const BACKEND_TOKEN: &str = "token";
/// Name of the client certificate's file there.
pub const BACKEND_CERTIFICATE: &str = "tls.crt";
/// Name of its key's file there.
pub const BACKEND_KEY: &str = "tls.key";

/// How a program reaches the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendSettings {
    /// Such as `https://scanner.example`; a path before the endpoints' own is kept.
    pub url: String,
    /// The tenant that is asked for.
    pub tenant: String,
    /// Its project.
    pub project: String,
    /// Names this cluster to the backend.
    #[serde(default)]
    pub cluster: String,
    /// Certificates (PEM) that vouch for it instead of the publicly trusted ones; empty: the public ones.
    #[serde(default)]
    pub ca: String,
    /// File with a bearer token; empty: none.
    #[serde(default)]
    pub token_file: String,
    /// File with a client certificate's chain (PEM); empty: none.
    #[serde(default)]
    pub certificate_file: String,
    /// File with its key (PEM).
    #[serde(default)]
    pub key_file: String,
}

impl BackendSettings {
    /// Everything that is wrong, under the name of the setting that holds them.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |code, field: &str, message: &str, hint: &str| {
            let field = format!("backend.{field}");
            problems.push(Problem { code, field, message: message.into(), hint: hint.into() });
        };
        if !is_base(&self.url) {
            let message = "is no https URL without user, query and fragment";
            wrong("SURFACE_ENV_MISSING_ENDPOINT", "url", message, "write it as https://scanner.example");
        }
        for (field, value) in [("tenant", &self.tenant), ("project", &self.project)] {
            if value.is_empty() {
                wrong("SURFACE_TENANT_MISMATCH", field, "is empty", "set it in the chart's values");
            }
        }
        if self.token_file.is_empty() && self.certificate_file.is_empty() {
            let hint = "set backend.auth.tokenSecret or backend.auth.certificateSecret in the chart's values";
            wrong("SURFACE_SECRET_MISSING", "auth", "nothing proves who asks", hint);
        }
        if self.certificate_file.is_empty() != self.key_file.is_empty() {
            wrong("SURFACE_SECRET_MISSING", "keyFile", "goes with certificateFile", "set both or none");
        }
        problems
    }
}

/// The backend as the chart's values name it: by Secrets of the release's namespace, which are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendValues {
    /// As [`BackendSettings::url`]; empty: there is no backend.
    #[serde(default)]
    pub url: String,
    /// As [`BackendSettings::project`].
    #[serde(default)]
    pub project: String,
    /// As [`BackendSettings::ca`].
    #[serde(default)]
    pub ca: String,
    /// What proves who asks.
    #[serde(default)]
    pub auth: BackendAuth,
}

/// What proves to the backend who asks: one of the two, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendAuth {
    /// A bearer token.
    #[serde(default)]
    pub token_secret: SecretEntry,
    /// Name of a Secret of type `kubernetes.io/tls` with the client's certificate; empty: none.
    #[serde(default)]
    pub certificate_secret: String,
}

/// An entry of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretEntry {
    /// Name of the Secret; empty: none.
    #[serde(default)]
    pub name: String,
    /// Name of the entry.
    #[serde(default)]
    pub key: String,
}

impl BackendValues {
    /// Whether there is a backend.
    pub fn is_configured(&self) -> bool {
        !self.url.is_empty()
    }

    /// As a program reads it that has the Secrets mounted at [`BACKEND_FILES`]; absent: there is no backend.
    pub fn settings(&self, tenant: &str, cluster: &str) -> Option<BackendSettings> {
        let file = |name: &str, secret: &str| {
            if secret.is_empty() { String::new() } else { format!("{BACKEND_FILES}/{name}") }
        };
        self.is_configured().then(|| BackendSettings {
            url: self.url.clone(),
            tenant: tenant.to_owned(),
            project: self.project.clone(),
            cluster: cluster.to_owned(),
            ca: self.ca.clone(),
            token_file: file(BACKEND_TOKEN, &self.auth.token_secret.name),
            certificate_file: file(BACKEND_CERTIFICATE, &self.auth.certificate_secret),
            key_file: file(BACKEND_KEY, &self.auth.certificate_secret),
        })
    }
}

/// Whether a URL can have the endpoints' paths put behind it: a token goes over TLS only.
pub fn is_base(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    uri.scheme_str() == Some("https")
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && uri.query().is_none()
        && !url.contains('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_to_an_https_host_alone_and_both_ids_are_asked_for() {
        let good = BackendSettings {
            url: "https://scanner.example:8443/zone".into(),
            tenant: "t".into(),
            project: "p".into(),
            token_file: "/token".into(),
            ..BackendSettings::default()
        };
        assert_eq!(good.problems(), []);
        for url in ["", "http://scanner.example", "https://u:p@scanner.example", "https://s.example/?a=b", "https:///x"]
        {
            let bad = BackendSettings { url: url.into(), ..good.clone() };
            assert_eq!(bad.problems().iter().map(|p| p.field.as_str()).collect::<Vec<_>>(), ["backend.url"], "{url}");
        }
        let bare = BackendSettings { url: good.url.clone(), key_file: "/key".into(), ..BackendSettings::default() };
        let fields: Vec<_> = bare.problems().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["backend.tenant", "backend.project", "backend.auth", "backend.keyFile"]);
    }
}
