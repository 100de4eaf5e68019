//! Credentials that the installation's settings name: Secrets of Zastava's namespace, watched by name.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use tokio_stream::StreamMap;
use tokio_util::sync::CancellationToken;
use zastava_core::watching;
use zastava_verify::keychain::Keychain;

use crate::cluster::docker_config;

/// What was last read of each Secret; `None` before its first word.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, Option<Keychain>>);

impl Known {
    fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| (name, None)).collect())
    }

    fn learn(&mut self, name: &str, secret: Option<Secret>) {
        let config = secret.and_then(docker_config);
        let keychain = config.map(|config| Keychain::from_docker_config(&config)).transpose();
        let keychain = keychain.unwrap_or_else(|error| {
            tracing::error!(secret = name, category = error.category(), %error, "credentials of a registry can't be read");
            None
        });
        let keychain = keychain.unwrap_or_default();
        if let Some(ignored) = keychain.ignored() {
            tracing::warn!(secret = name, "{ignored}");
        }
        self.0.insert(name.to_owned(), Some(keychain));
    }

    fn merged(&self) -> Keychain {
        self.0.values().flatten().fold(Keychain::default(), Keychain::merged)
    }

    fn settled(&self) -> bool {
        self.0.values().all(Option::is_some)
    }
}

/// Gives `publish` the credentials of all Secrets at each change until `token` is cancelled; tells `settled` whether
/// every Secret was read once.
pub async fn run(
    client: &Client,
    namespace: &str,
    names: BTreeSet<String>,
    mut publish: impl FnMut(Keychain),
    mut settled: impl FnMut(bool),
    token: &CancellationToken,
) {
    let mut known = Known::new(names.iter().cloned());
    let mut secrets: StreamMap<String, BoxStream<'static, _>> = StreamMap::new();
    for name in names {
        let watched =
            watch_object(Api::<Secret>::namespaced(client.clone(), namespace), &name).backoff(watching::pauses());
        secrets.insert(name, watched.boxed());
    }
    settled(known.settled());
    while let Some(Some((name, secret))) = token.run_until_cancelled(secrets.next()).await {
        match secret {
            Ok(secret) => {
                known.learn(&name, secret);
                publish(known.merged());
                settled(known.settled());
            }
            Err(error) => {
                tracing::warn!(secret = name, %error, "credentials of a registry are not watched, trying again");
            }
        }
    }
}
