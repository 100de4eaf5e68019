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
    time::Duration,
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

/// Credentials that could not be read by then are not waited for.
const CREDENTIALS: Duration = Duration::from_secs(5);

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

/// The configured credentials; `None` until each of them was read once, or could have been.
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
        let tell = || {
            tx.send_replace(Some(latest.lock().unwrap_or_else(PoisonError::into_inner).clone()));
        };
        let settled = |settled| {
            if settled || tx.borrow().is_some() {
                tell();
            }
        };
        // One Secret that can't be read takes no credentials from the others' registries.
        let late = async {
            tokio::time::sleep(CREDENTIALS).await;
            if tx.borrow().is_none() {
                tracing::warn!("not all credentials of registries could be read yet, going on with those that were");
                tell();
            }
            std::future::pending::<()>().await;
        };
        let names = names.into_iter().collect::<BTreeSet<_>>();
        tokio::select! {
            () = configured::run(&client, &namespace, names, publish, settled, &token) => {}
            () = late => {}
        }
        // Without any Secret to watch there is nothing to do until the end.
        token.cancelled().await;
    });
    keychain
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use k8s_openapi::{ByteString, api::core::v1::Secret};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server that lets Secret `open` be read and no other.
    fn client() -> Client {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            if query.contains("watch=") {
                std::future::pending::<()>().await;
            }
            let (code, answer) = if query.contains("name%3Dopen") { (200, listed()) } else { (403, refused()) };
            let body = Body::from(serde_json::to_vec(&answer).unwrap());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        });
        Client::new(service, "zastava-system")
    }

    fn listed() -> Value {
        let config = json!({"auths": {"registry.example": {"username": "u", "password": "p"}}}).to_string();
        let mut secret = Secret::default();
        secret.metadata.name = Some("open".to_owned());
        secret.data = Some([(".dockerconfigjson".to_owned(), ByteString(config.into_bytes()))].into());
        json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "1"}, "items": [secret]})
    }

    fn refused() -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden",
            "message": "forbidden"})
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_can_not_be_read_does_not_hold_the_others_up() {
        let token = CancellationToken::new();
        let of = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            credentials(client(), "zastava-system".to_owned(), names, token.clone())
        };
        for (names, empty) in [(&["open", "shut"][..], false), (&["shut"], true), (&["open"], false), (&[], true)] {
            let mut keychain = of(names);
            let read = tokio::time::timeout(CREDENTIALS * 2, keychain.wait_for(Option::is_some)).await;
            assert_eq!(read.unwrap().unwrap().as_ref().unwrap().is_empty(), empty, "{names:?}");
        }
        token.cancel();
    }
}
