//! The objects that hold policies' keys, watched one by one: by name, and only while a policy names them.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt,
        watcher::{self, watch_object},
    },
};
use zastava_core::watching;

use super::keys::{Content, Source};

/// What a source holds, again at each change.
pub type KeyStream = Pin<Box<dyn Stream<Item = Content> + Send>>;

/// One object by name: the role that allows it is bound to the name.
pub fn watch(client: &Client, namespace: &str, source: &Source) -> KeyStream {
    match source {
        Source::Secret(name) => watch_object(Api::<Secret>::namespaced(client.clone(), namespace), name)
            .backoff(watching::pauses())
            .map(|secret| secret.map_or_else(|error| unreadable(&error), Content::of_secret))
            .boxed(),
        Source::ConfigMap(name) => watch_object(Api::<ConfigMap>::namespaced(client.clone(), namespace), name)
            .backoff(watching::pauses())
            .map(|map| map.map_or_else(|error| unreadable(&error), Content::of_config_map))
            .boxed(),
    }
}

fn unreadable(error: &watcher::Error) -> Content {
    let why: String = error.to_string().chars().take(256).collect();
    Content::Unreadable(format!(
        "{why}; the chart's admission.keySecrets and admission.keyConfigMaps list what may be read"
    ))
}
