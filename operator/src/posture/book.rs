//! The policies that ask for posture, compiled with their keys as the keys are now.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio_stream::StreamMap;
use tokio_util::sync::CancellationToken;
use zastava_admission::policies::{
    keys::{self, Keyring, Source},
    policy::{Policy, Requirements, Standing},
    sources::{self, KeyStream},
};
use zastava_crds::policy::ZastavaPolicy;
use zastava_verify::requirement::PolicyIdentity;

use crate::{finding::duration, policy::Policies, rollout::in_force};

/// For an interval that can't be read, which the schema excludes.
const FALLBACK: Duration = Duration::from_hours(1);

/// A policy that asks whether what runs still satisfies it.
#[derive(Debug)]
pub(super) struct Asking {
    /// Its scope, requirements and exceptions.
    pub(super) policy: Arc<Policy>,
    pub(super) generation: i64,
    pub(super) interval: Duration,
    /// When its exceptions stop counting.
    pub(super) expiries: Vec<Timestamp>,
}

/// The policies that ask for posture; `None` until they, and all keys that they name, were read.
#[derive(Clone, Debug)]
pub(super) struct Book(watch::Receiver<Option<Arc<Vec<Asking>>>>);

impl Book {
    /// Starts to watch the keys that the policies name.
    pub(super) fn start(client: &Client, namespace: &str, policies: Policies, token: &CancellationToken) -> Self {
        let (tx, book) = watch::channel(None);
        let follow = follow(client.clone(), namespace.to_owned(), policies, tx);
        tokio::spawn(token.clone().run_until_cancelled_owned(follow));
        Self(book)
    }

    pub(super) fn now(&self) -> Option<Arc<Vec<Asking>>> {
        self.0.borrow().clone()
    }

    /// Waits for a change since the last call on this clone.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Asking {
    /// `None`: it is not in force, or asks for no posture.
    pub(super) fn of(policy: &ZastavaPolicy, keys: &Keyring) -> Option<Self> {
        let posture = policy.spec.runtime.as_ref()?.posture.as_ref()?;
        if policy.metadata.deletion_timestamp.is_some() || in_force(policy).is_err() {
            return None;
        }
        let Standing::InForce(compiled) = Standing::compile(policy, keys) else { return None };
        Some(Self {
            policy: compiled,
            generation: policy.metadata.generation.unwrap_or_default(),
            interval: duration(&posture.interval).unwrap_or(FALLBACK),
            expiries: policy.spec.exceptions.iter().map(|exception| exception.expires.0).collect(),
        })
    }

    /// What makes it another one: a write of a policy's status does not.
    fn mark(&self) -> (String, i64, String, Option<PolicyIdentity>) {
        let reference = &self.policy.reference;
        let (keys, why) = match &self.policy.requirements {
            Requirements::Proof(requirements) => (Some(requirements.policy().clone()), String::new()),
            Requirements::DigestOnly => (None, String::new()),
            Requirements::Unreadable { why, .. } => (None, why.clone()),
        };
        (reference.uid.clone(), self.generation, format!("{} {why}", reference.hash), keys)
    }
}

async fn follow(
    client: Client,
    namespace: String,
    mut policies: Policies,
    tx: watch::Sender<Option<Arc<Vec<Asking>>>>,
) {
    policies.synced().await;
    let mut keyring = Keyring::new(&namespace);
    let mut streams: StreamMap<Source, KeyStream> = StreamMap::new();
    loop {
        let all = policies.all();
        let asks = |policy: &&Arc<ZastavaPolicy>| policy.spec.runtime.as_ref().is_some_and(|r| r.posture.is_some());
        let admissions = all.iter().filter(asks).filter_map(|policy| policy.spec.admission.as_ref());
        let named: BTreeSet<_> = admissions.flat_map(keys::sources).collect();
        let (new, gone) = keyring.name(&named);
        for source in gone {
            streams.remove(&source);
        }
        for source in new {
            let stream = sources::watch(&client, &namespace, &source);
            streams.insert(source, stream);
        }
        if keyring.settled() {
            let asking: Vec<_> = all.iter().filter_map(|policy| Asking::of(policy, &keyring)).collect();
            let marks = |book: &[Asking]| book.iter().map(Asking::mark).collect::<Vec<_>>();
            tx.send_if_modified(|old| {
                let changed = old.as_ref().is_none_or(|old| marks(old) != marks(&asking));
                if changed {
                    *old = Some(Arc::new(asking));
                }
                changed
            });
        }
        tokio::select! {
            () = policies.changed() => {}
            Some((source, content)) = streams.next(), if !streams.is_empty() => {
                keyring.learn(&source, content);
            }
        }
    }
}
