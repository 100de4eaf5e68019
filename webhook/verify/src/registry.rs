//! Registries: the distribution API with bounds, and what is configured for each of them.

mod auth;
mod client;
mod content;
mod fetch;
pub mod layout;
mod pause;
mod referrers;
mod requests;
pub mod transport;

use std::{collections::HashMap, sync::Arc, time::Duration};

use moka::future::Cache;
use serde::Deserialize;
use zastava_core::{
    egress::{Client, Guard, GuardError},
    settings::registries::{CloudCredentials, ConfiguredRegistry},
};
use zastava_crds::digest::Sha256Digest;

use self::{
    auth::{Authorization, TokenKey, TokenLifetime},
    fetch::ContentKey,
    pause::Pauses,
    transport::Transport,
};
pub(crate) use self::{
    content::{
        Annotations, Child, Content, Layer, Manifest, Referrer, base_hint, config as config_of, layer_digests,
        layers as layers_of, referrers as referrers_of,
    },
    fetch::{bounded, unanswered},
    referrers::Referrers,
    requests::{Requests, What},
};
use crate::{
    credentials::{self, CallerBuilder, Environment, ExchangeSettingsError, Held},
    image::ImageReference,
    keychain::{Credential, Keychain},
};

/// Manifests, indexes and referrers pages are at most this long (as containerd's bound).
pub(crate) const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// Bytes of small content (manifests, signatures) kept in memory.
const CONTENT_CACHE_BYTES: u64 = 4 * 1024 * 1024;
const CONTENT_TTL: Duration = Duration::from_mins(10);
const MAX_TOKENS: u64 = 10_000;

/// What is configured for one registry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrySettings {
    /// Host as references write it, with its port.
    pub host: String,
    /// Plain HTTP instead of TLS.
    #[serde(default)]
    pub plain_http: bool,
    /// Certificates (PEM) to trust for it besides the system's.
    #[serde(default)]
    pub ca_pem: Option<String>,
    /// `host[:port][/path]` that is asked instead, and always, such as a pull-through cache. Digests are still checked;
    /// credentials are those of the mirror's own name, and how it is reached is said in settings of its own.
    #[serde(default)]
    pub mirror: Option<String>,
    /// The cloud that gives credentials for it, tried after those of the keychain.
    #[serde(default)]
    pub credentials: Option<CloudCredentials>,
}

impl From<&ConfiguredRegistry> for RegistrySettings {
    fn from(configured: &ConfiguredRegistry) -> Self {
        Self {
            host: configured.host.clone(),
            plain_http: configured.plain_http,
            ca_pem: Some(configured.ca.clone()).filter(|pem| !pem.is_empty()),
            mirror: Some(configured.mirror.clone()).filter(|mirror| !mirror.is_empty()),
            credentials: configured.credentials,
        }
    }
}

/// All registries, as configured; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    transport: Option<Arc<dyn Transport>>,
}

struct Inner {
    settings: HashMap<String, RegistrySettings>,
    clients: HashMap<String, Client>,
    /// Credentials that clouds give, by host.
    exchanged: HashMap<String, Arc<Held>>,
    default_client: Client,
    known: Cache<TokenKey, Authorization>,
    /// Which of several credentials a repository accepted last: another one may accept others.
    accepted: Cache<(String, Scope), usize>,
    content: Cache<ContentKey, Content>,
    pauses: Pauses,
    requests: Requests,
}

/// Settings of a registry that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The certificates don't parse.
    #[error("registry {host}: caPem is not a PEM certificate: {why}")]
    Ca {
        /// Host of the entry.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// No client could be built.
    #[error("registry {host}: {why}")]
    Client {
        /// Host of the entry.
        host: String,
        /// What went wrong.
        why: String,
    },
    /// A cloud's credentials are asked for that can't be had.
    #[error("registry {host}: {why}")]
    Credentials {
        /// Host of the entry.
        host: String,
        /// What is wrong with them.
        why: ExchangeSettingsError,
    },
    /// No guard can be made of the hosts and the denied networks.
    #[error("registries: {0}")]
    Guard(#[from] GuardError),
}

impl RegistryError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Ca { .. } => "registry_ca",
            Self::Client { .. } => "registry_client",
            Self::Credentials { .. } => "registry_credentials",
            Self::Guard(error) => error.category(),
        }
    }
}

impl Registry {
    /// With these settings; a registry without any is asked over TLS, under the system's certificates, and must not be
    /// in one of the `denied_networks`.
    pub fn new(settings: Vec<RegistrySettings>, denied_networks: &[String]) -> Result<Self, RegistryError> {
        Self::within(settings, denied_networks, &Environment::of_process())
    }

    /// The same where clouds put something else into the environment than into this process's.
    pub fn within(
        settings: Vec<RegistrySettings>,
        denied_networks: &[String],
        environment: &Environment,
    ) -> Result<Self, RegistryError> {
        let mirrors: Vec<_> = settings.iter().filter_map(|entry| entry.mirror.as_deref()).map(host_of).collect();
        let hosts = settings.iter().map(|entry| entry.host.as_str()).chain(mirrors.iter().copied());
        let guard = Guard::new(denied_networks.iter().map(String::as_str), hosts)?;
        let requests = Requests::default();
        let callers = CallerBuilder::new(denied_networks, &requests);
        let (mut clients, mut exchanged) = (HashMap::new(), HashMap::new());
        for entry in &settings {
            clients.insert(entry.host.clone(), client::build(Some(entry), &guard)?);
            if let Some(kind) = entry.credentials {
                let host = entry.host.clone();
                let exchange = credentials::exchange(kind, &host, environment, &callers)
                    .map_err(|why| RegistryError::Credentials { host: host.clone(), why })?;
                exchanged.insert(host.clone(), Held::new(&host, exchange));
            }
        }
        for mirror in mirrors {
            if !clients.contains_key(mirror) {
                clients.insert(mirror.to_owned(), client::build(None, &guard)?);
            }
        }
        let content = Cache::builder()
            .max_capacity(CONTENT_CACHE_BYTES)
            .weigher(|_: &ContentKey, content: &Content| u32::try_from(content.body.len() + 1024).unwrap_or(u32::MAX))
            .time_to_live(CONTENT_TTL)
            .build();
        let known = Cache::builder().max_capacity(MAX_TOKENS).expire_after(TokenLifetime).build();
        let inner = Inner {
            settings: settings.into_iter().map(|entry| (entry.host.clone(), entry)).collect(),
            clients,
            exchanged,
            // One that nobody configured leads us to no configured one either.
            default_client: client::build(None, &guard.strict())?,
            known,
            accepted: Cache::builder().max_capacity(MAX_TOKENS).time_to_live(CONTENT_TTL).build(),
            content,
            pauses: Pauses::default(),
            requests,
        };
        Ok(Self { inner: Arc::new(inner), transport: None })
    }

    /// The same registries, asked through a transport.
    #[must_use]
    pub fn through(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport: Some(transport), ..self }
    }

    #[cfg(test)]
    pub(crate) fn with_exchange(mut self, host: &str, exchange: Arc<dyn credentials::Exchange>) -> Self {
        let inner = Arc::get_mut(&mut self.inner).expect("it was just made");
        inner.exchanged.insert(host.to_owned(), Held::new(host, exchange));
        self
    }

    /// Shows what registries are asked: `zastava_registry_requests_total`.
    pub fn register(&self, metrics: &mut prometheus_client::registry::Registry) {
        self.inner.requests.register(metrics);
    }

    /// The repository of an image, as one who holds these credentials sees it.
    pub(crate) fn repository(&self, image: &ImageReference, keychain: &Keychain) -> Repository {
        let inner = &self.inner;
        let mirror = inner.settings.get(image.host()).and_then(|settings| settings.mirror.as_deref());
        let (host, name) = match mirror.map(|mirror| mirror.split_once('/').unwrap_or((mirror, ""))) {
            None => (image.host(), image.repository().to_owned()),
            Some((host, "")) => (host, image.repository().to_owned()),
            Some((host, path)) => (host, format!("{path}/{}", image.repository())),
        };
        let scheme = if inner.settings.get(host).is_some_and(|s| s.plain_http) { "http" } else { "https" };
        // Docker Hub's references and its registry have different names.
        let dialled = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let credentials = keychain.lookup(host, &name);
        let exchanged = inner.exchanged.get(host).cloned();
        let scope = Scope::of(host, &credentials, exchanged.is_some());
        Repository {
            client: inner.clients.get(host).unwrap_or(&inner.default_client).clone(),
            registry: self.clone(),
            host: host.to_owned(),
            written: image.clone(),
            base: format!("{scheme}://{dialled}/v2/{name}"),
            name,
            credentials,
            exchanged,
            scope,
        }
    }
}

/// Of `host[:port][/path]` the host with its port.
fn host_of(mirror: &str) -> &str {
    mirror.split_once('/').map_or(mirror, |(host, _)| host)
}

/// Whose credentials an answer was obtained with: what one pod may see is not shown to another. It can't be turned
/// back into credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Sha256Digest);

impl Scope {
    fn of(host: &str, credentials: &[Credential], is_exchanged: bool) -> Self {
        let mut text = format!("{host}\0");
        for credential in credentials {
            credential.write_identity(&mut text);
        }
        // Whatever they are at the moment, they are Zastava's own.
        if is_exchanged {
            text.push_str("exchanged\0");
        }
        Self(Sha256Digest::of(text.as_bytes()))
    }
}

/// One repository, asked with one set of credentials.
#[derive(Clone)]
pub(crate) struct Repository {
    registry: Registry,
    client: Client,
    host: String,
    /// The reference that led here: it names another host where a mirror is asked.
    written: ImageReference,
    base: String,
    name: String,
    credentials: Vec<Credential>,
    /// Tried after the others.
    exchanged: Option<Arc<Held>>,
    scope: Scope,
}

impl Repository {
    /// Where it is asked, and with what credentials: what is remembered is bound to both.
    pub(crate) fn identity(&self) -> (String, Scope) {
        (self.base.clone(), self.scope.clone())
    }
}
