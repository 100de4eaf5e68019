//! Posture: whether what runs still satisfies the policy that it was admitted under.
//!
//! Order of data: [`book`] (policies with their keys) and pods → [`survey`] (pure: which questions there are, and what
//! their answers mean for whom) → [`examine`] asks registries, one question for all pods of one image under one policy →
//! [`answers`] → findings that are opened and resolved, and the [`Outlook`] that the policies' statuses tell.

mod answers;
mod book;
mod examine;
mod metrics;
mod outlook;
mod reconcile;
mod running;
mod survey;
mod worker;

#[cfg(test)]
mod model;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_admission::credentials::configured;
use zastava_core::backend::verdicts::Verdicts;
use zastava_verify::{keychain::Keychain, verifier::Verifier};

use self::{
    book::Book,
    examine::Registries,
    worker::{Surroundings, Worker},
};
pub use self::{
    metrics::PostureMetrics,
    outlook::{Outlook, Outlooks},
};
use crate::{
    finding::{Caps, store::ApiStore},
    leader::Leadership,
    nodes::{ClusterNodes, RuleBook},
    pods::PodIndex,
    policy::Policies,
};

/// The rooms of the operator that posture works with.
pub struct Rooms {
    /// Where keys and credentials are watched.
    pub client: Client,
    /// The release's namespace: keys and credentials lie there.
    pub namespace: String,
    /// Only the leader looks.
    pub leadership: Leadership,
    /// What is asked.
    pub policies: Policies,
    /// Labels of the namespaces that are not exempt.
    pub rules: RuleBook,
    /// The platforms that an image must be proven for.
    pub cluster: ClusterNodes,
    /// What runs.
    pub pods: PodIndex,
    /// Where findings are kept ([`crate::finding::start`]).
    pub findings: ApiStore,
    /// How many of them a namespace may hold.
    pub caps: Caps,
    /// Counts.
    pub metrics: PostureMetrics,
    /// The engine, over the configured registries.
    pub verifier: Verifier,
    /// The backend's words.
    pub backend: Verdicts,
    /// Secrets of type dockerconfigjson in the release's namespace: `registries.configured[].pullSecret`.
    pub pull_secrets: Vec<String>,
}

/// Starts to look; it ends with `token`. What is returned says how each policy stands.
pub fn start(rooms: Rooms, token: &CancellationToken) -> watch::Receiver<Outlooks> {
    let book = Book::start(&rooms.client, &rooms.namespace, rooms.policies, token);
    let keychain = credentials(rooms.client, rooms.namespace, rooms.pull_secrets, token.clone());
    let examiner = Registries::new(rooms.verifier, rooms.backend, keychain);
    let (worker, outlooks) = Worker::new(rooms.findings, rooms.caps, examiner, rooms.metrics);
    let surroundings = Surroundings { book, rules: rooms.rules, cluster: rooms.cluster, pods: rooms.pods };
    let run = worker::run(worker, rooms.leadership, surroundings);
    tokio::spawn(token.clone().run_until_cancelled_owned(run));
    outlooks
}

/// The configured credentials; `None` until each of them was read once.
fn credentials(
    client: Client,
    namespace: String,
    names: Vec<String>,
    token: CancellationToken,
) -> watch::Receiver<Option<Keychain>> {
    let (tx, keychain) = watch::channel(None);
    tokio::spawn(async move {
        let latest = Mutex::new(Keychain::default());
        let publish = |keychain| *latest.lock().unwrap_or_else(PoisonError::into_inner) = keychain;
        let settled = |settled| {
            if settled {
                tx.send_replace(Some(latest.lock().unwrap_or_else(PoisonError::into_inner).clone()));
            }
        };
        let names = names.into_iter().collect::<BTreeSet<_>>();
        configured::run(&client, &namespace, names, publish, settled, &token).await;
        // Without any Secret to watch there is nothing to do until the end.
        token.cancelled().await;
    });
    keychain
}
