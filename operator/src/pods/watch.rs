//! The watches that fill the index.

use std::collections::HashMap;

use futures::StreamExt as _;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod as Object};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio_util::sync::CancellationToken;
use zastava_core::watching;

use super::{Owners, Pod, PodIndex};

/// Starts to watch pods, and the metadata of jobs for the CronJobs behind them.
pub fn start(client: &Client, token: &CancellationToken) -> PodIndex {
    let index = PodIndex::default();
    let owners = index.owners().clone();
    let (sent, first_jobs) = tokio::sync::oneshot::channel();
    tokio::spawn(token.clone().run_until_cancelled_owned(jobs(client.clone(), owners.clone(), sent)));
    let pods = pods(client.clone(), index.clone(), owners);
    tokio::spawn(token.clone().run_until_cancelled_owned(async move {
        // A pod is named by its CronJob from the first, or its findings would get two names.
        let _ = first_jobs.await;
        pods.await;
    }));
    index
}

async fn pods(client: Client, index: PodIndex, owners: Owners) {
    let api: Api<Object> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(watching::pauses()));
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => listed.extend(Pod::of(pod, &owners)),
            Ok(watcher::Event::InitDone) => index.replace(std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(pod)) => {
                if let Some(pod) = Pod::of(pod, &owners) {
                    index.put(pod);
                }
            }
            Ok(watcher::Event::Delete(pod)) => {
                if let Some(pod) = Pod::of(pod, &owners) {
                    index.remove(&pod);
                }
            }
            Err(error) => tracing::warn!(%error, "watch of pods failed, trying again"),
        }
    }
}

async fn jobs(client: Client, owners: Owners, first: tokio::sync::oneshot::Sender<()>) {
    let api: Api<PartialObjectMeta<Job>> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(watching::pauses()));
    let mut listed = HashMap::new();
    let mut first = Some(first);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(job)) => {
                if let ((namespace, name), Some(cron_job)) = cron_job(job) {
                    listed.insert((namespace, name), cron_job);
                }
            }
            Ok(watcher::Event::InitDone) => {
                owners.replace(std::mem::take(&mut listed));
                if let Some(first) = first.take() {
                    // The pods' watch may be gone already, at shutdown.
                    let _ = first.send(());
                }
            }
            Ok(watcher::Event::Apply(job)) => {
                let ((namespace, name), cron_job) = cron_job(job);
                owners.set(&namespace, &name, cron_job);
            }
            Ok(watcher::Event::Delete(job)) => {
                let ((namespace, name), _) = cron_job(job);
                owners.set(&namespace, &name, None);
            }
            Err(error) => tracing::warn!(%error, "watch of jobs failed, trying again"),
        }
    }
}

fn cron_job(job: PartialObjectMeta<Job>) -> ((String, String), Option<String>) {
    let meta = job.metadata;
    let key = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
    let owner = meta.owner_references.unwrap_or_default().into_iter().find(|o| o.controller == Some(true));
    (key, owner.filter(|owner| owner.kind == "CronJob").map(|owner| owner.name))
}
