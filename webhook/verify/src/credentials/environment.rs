//! What a cloud puts into a pod's environment, under the names that its own libraries read.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::ExchangeError;

/// A token is no longer than this.
const MAX_TOKEN: usize = 64 * 1024;

/// Every name that is read.
const NAMES: [&str; 16] = [
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_ECR",
    "GCE_METADATA_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
];

/// A pod's environment, as far as credentials are exchanged with it.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<&'static str, String>);

impl std::fmt::Debug for Environment {
    /// The names alone: some values are keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    /// From a lookup by name.
    pub fn of(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &'static str| Some((name, lookup(name).filter(|value| !value.is_empty())?));
        Self(NAMES.into_iter().filter_map(set).collect())
    }

    pub(super) fn get(&self, name: &'static str) -> Option<&str> {
        debug_assert!(NAMES.contains(&name));
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn require(&self, variable: &'static str, hint: &'static str) -> Result<&str, ExchangeError> {
        self.get(variable).ok_or(ExchangeError::Missing { variable, hint })
    }
}

/// The token in a file, read each time: the kubelet writes a new one before the old one ends.
pub(super) async fn token(variable: &'static str, path: &str) -> Result<SecretString, ExchangeError> {
    let wrong = |why: String| ExchangeError::Token { variable, path: path.to_owned(), why };
    let length = tokio::fs::metadata(path).await.map_err(|error| wrong(error.to_string()))?.len();
    if length > MAX_TOKEN as u64 {
        return Err(wrong(format!("{length} bytes, more than {MAX_TOKEN}")));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(|error| wrong(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(wrong("is empty".to_owned()));
    }
    Ok(token.into())
}
