//! Keeps the world up to date from watches alone: policies, the keys they name, namespaces' labels, nodes' platforms.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, Event, watcher},
    },
};
use tokio_stream::StreamMap;
use tokio_util::sync::CancellationToken;
use zastava_core::watching;
use zastava_crds::policy::ZastavaPolicy;
use zastava_verify::image::{Platform, Platforms};

use zastava_admission::policies::{
    keys::{self, Content, Keyring, Source},
    policy::Standing,
    snapshot::{Snapshot, World},
    sources::{self, KeyStream},
};

/// Deleted policies remembered at most.
const MAX_DELETED: usize = 256;

/// Which watches have told all that there was when they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Policies, and every key they name.
    pub policies: bool,
    /// Namespaces.
    pub namespaces: bool,
    /// Nodes: which children of an index are looked at depends on their platforms.
    pub nodes: bool,
}

/// All objects that the snapshot is made of.
#[derive(Debug)]
pub struct Index {
    policies: BTreeMap<String, ZastavaPolicy>,
    listing: BTreeMap<String, ZastavaPolicy>,
    listed: bool,
    deleted: VecDeque<String>,
    keys: Keyring,
    nodes: BTreeMap<String, Platform>,
    nodes_listing: BTreeMap<String, Platform>,
    nodes_listed: bool,
}

impl Index {
    /// With nothing in it; keys are looked for in `namespace`.
    pub fn new(namespace: &str) -> Self {
        Self {
            policies: BTreeMap::new(),
            listing: BTreeMap::new(),
            listed: false,
            deleted: VecDeque::new(),
            keys: Keyring::new(namespace),
            nodes: BTreeMap::new(),
            nodes_listing: BTreeMap::new(),
            nodes_listed: false,
        }
    }

    /// Takes a policy in. Returns whether a snapshot is due.
    pub fn policy(&mut self, event: Event<DeserializeGuard<ZastavaPolicy>>) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(object) => {
                // What was read before stays in force: a policy that became unreadable is not a policy that was deleted.
                let uid = object.meta().uid.clone().unwrap_or_default();
                if let Some(policy) = readable(object).or_else(|| self.policies.get(&uid).cloned()) {
                    self.listing.insert(uid, policy);
                }
                false
            }
            Event::InitDone => {
                let gone: Vec<_> =
                    self.policies.keys().filter(|uid| !self.listing.contains_key(*uid)).cloned().collect();
                for uid in gone {
                    self.forget(uid);
                }
                self.policies = std::mem::take(&mut self.listing);
                self.listed = true;
                true
            }
            Event::Apply(object) => {
                let Some(policy) = readable(object) else { return false };
                let uid = policy.uid().unwrap_or_default();
                // All that a compiled policy is made of; its status is written much more often.
                let made_of = |policy: &ZastavaPolicy| (policy.name_any(), policy.metadata.generation);
                let same = self
                    .policies
                    .get(&uid)
                    .is_some_and(|known| made_of(known) == made_of(&policy) && known.spec == policy.spec);
                self.policies.insert(uid, policy);
                !same
            }
            Event::Delete(object) => {
                let uid = object.meta().uid.clone().unwrap_or_default();
                self.policies.remove(&uid);
                self.forget(uid);
                true
            }
        }
    }

    fn forget(&mut self, uid: String) {
        if self.deleted.len() == MAX_DELETED {
            self.deleted.pop_front();
        }
        self.deleted.push_back(uid);
    }

    /// Takes a node in. Returns whether a snapshot is due: nodes come and go, their platforms hardly ever.
    pub fn node(&mut self, event: Event<PartialObjectMeta<Node>>) -> bool {
        let before = self.platforms();
        self.nodes_listed |= matches!(event, Event::InitDone);
        match event {
            Event::Init => self.nodes_listing.clear(),
            Event::InitApply(node) => {
                self.nodes_listing
                    .extend(Platform::of_labels(node.labels()).map(|platform| (node.name_any(), platform)));
            }
            Event::InitDone => self.nodes = std::mem::take(&mut self.nodes_listing),
            Event::Apply(node) => {
                self.nodes.extend(Platform::of_labels(node.labels()).map(|platform| (node.name_any(), platform)));
            }
            Event::Delete(node) => {
                self.nodes.remove(&node.name_any());
            }
        }
        self.platforms() != before
    }

    fn platforms(&self) -> Platforms {
        Platforms::of(self.nodes.values().cloned())
    }

    /// Makes the keys those that policies name now. Returns the new sources and those that are gone.
    pub fn name_keys(&mut self) -> (Vec<Source>, Vec<Source>) {
        let named: BTreeSet<_> = self
            .policies
            .values()
            .filter_map(|policy| policy.spec.admission.as_ref())
            .flat_map(keys::sources)
            .collect();
        self.keys.name(&named)
    }

    /// Notes what a source of keys holds. Returns whether a snapshot is due.
    pub fn key(&mut self, source: &Source, content: Content) -> bool {
        self.keys.learn(source, content)
    }

    /// Whether policies and their keys are all known.
    pub fn synced(&self) -> bool {
        self.listed && self.keys.settled()
    }

    /// Whether the nodes are known.
    pub fn nodes_read(&self) -> bool {
        self.nodes_listed
    }

    /// Everything, compiled.
    pub fn compile(&self) -> Snapshot {
        let deleted: HashSet<_> = self.deleted.iter().cloned().collect();
        let policies = self.policies.iter();
        Snapshot {
            policies: policies.map(|(uid, p)| (uid.clone(), Standing::compile(p, &self.keys))).collect(),
            deleted,
            platforms: self.platforms(),
        }
    }
}

/// A policy that this version can't read is left as it was last read: the operator tells about it.
fn readable(object: DeserializeGuard<ZastavaPolicy>) -> Option<ZastavaPolicy> {
    match object.0 {
        Ok(mut policy) => {
            policy.metadata.managed_fields = None;
            policy.status = None;
            Some(policy)
        }
        Err(invalid) => {
            tracing::error!(policy = invalid.metadata.name.as_deref().unwrap_or_default(), error = %invalid.error, "can't read a policy");
            None
        }
    }
}

/// Watches until `token` is cancelled; `synced` is told each time that the answer may have changed.
pub async fn run(
    client: Client,
    namespace: &str,
    world: &Arc<World>,
    mut namespaces: Writer<PartialObjectMeta<Namespace>>,
    mut synced: impl FnMut(Synced),
    token: &CancellationToken,
) {
    let config = watcher::Config::default;
    let mut policies = watcher(Api::<DeserializeGuard<ZastavaPolicy>>::all(client.clone()), config())
        .backoff(watching::pauses())
        .boxed();
    let mut nodes =
        watcher(Api::<PartialObjectMeta<Node>>::all(client.clone()), config()).backoff(watching::pauses()).boxed();
    let mut spaces = watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), config())
        .backoff(watching::pauses())
        .modify(|namespace| {
            namespace.metadata.managed_fields = None;
            namespace.metadata.annotations = None;
        })
        .boxed();
    let mut keys: StreamMap<Source, KeyStream> = StreamMap::new();
    let mut index = Index::new(namespace);
    let mut state = Synced::default();
    loop {
        let due = tokio::select! {
            () = token.cancelled() => return,
            Some(event) = policies.next() => told("policies", event).is_some_and(|event| index.policy(event)),
            Some(event) = nodes.next() => told("nodes", event).is_some_and(|event| index.node(event)),
            Some((source, content)) = keys.next(), if !keys.is_empty() => index.key(&source, content),
            Some(event) = spaces.next() => {
                if let Some(event) = told("namespaces", event) {
                    state.namespaces |= matches!(event, Event::InitDone);
                    namespaces.apply_watcher_event(&event);
                }
                false
            }
        };
        if due {
            let (new, gone) = index.name_keys();
            for source in gone {
                keys.remove(&source);
            }
            for source in new {
                let stream = sources::watch(&client, namespace, &source);
                keys.insert(source, stream);
            }
            world.publish(index.compile());
        }
        state.policies = index.synced();
        state.nodes = index.nodes_read();
        synced(state);
    }
}

fn told<T>(what: &str, event: Result<T, watcher::Error>) -> Option<T> {
    event.inspect_err(|error| tracing::warn!(what, %error, "a watch was interrupted, it begins again")).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(uid: &str, spec: &Value) -> DeserializeGuard<ZastavaPolicy> {
        serde_json::from_value(json!({
            "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
            "metadata": {"name": uid, "uid": uid, "generation": 1}, "spec": spec,
        }))
        .unwrap()
    }

    fn node(name: &str, arch: &str) -> PartialObjectMeta<Node> {
        let mut node = PartialObjectMeta::<Node>::default();
        node.metadata.name = Some(name.to_owned());
        let labels = [("kubernetes.io/os", "linux"), ("kubernetes.io/arch", arch)];
        node.metadata.labels = Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        node
    }

    fn listed(index: &mut Index, policies: &[(&str, Value)]) {
        index.policy(Event::Init);
        for (uid, spec) in policies {
            index.policy(Event::InitApply(policy(uid, spec)));
        }
        assert!(index.policy(Event::InitDone));
    }

    fn digests() -> Value {
        json!({"admission": {"digests": "Require"}})
    }

    #[test]
    fn a_policy_that_goes_is_remembered_as_gone_however_it_went() {
        let mut index = Index::new("zastava-system");
        listed(&mut index, &[("a", digests()), ("b", digests())]);
        assert_eq!(index.compile().in_force().count(), 2);
        index.policy(Event::Delete(policy("a", &digests())));
        // The second went while the watch was interrupted.
        listed(&mut index, &[]);
        let snapshot = index.compile();
        assert!(snapshot.policies.is_empty());
        assert!(["a", "b"].iter().all(|uid| snapshot.deleted.contains(*uid)));
    }

    #[test]
    fn a_policy_whose_status_was_written_asks_for_no_snapshot() {
        let written = |uid: &str, generation: i64, spec: &Value, ready: i32| {
            serde_json::from_value::<DeserializeGuard<ZastavaPolicy>>(json!({
                "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
                "metadata": {"name": uid, "uid": uid, "generation": generation, "resourceVersion": ready.to_string()},
                "spec": spec, "status": {"observedGeneration": ready},
            }))
            .unwrap()
        };
        let mut index = Index::new("zastava-system");
        listed(&mut index, &[("a", digests())]);
        assert!(!index.policy(Event::Apply(written("a", 1, &digests(), 2))), "only its status");
        assert!(index.policy(Event::Apply(written("a", 2, &digests(), 2))), "proofs are bound to the generation");
        assert!(index.policy(Event::Apply(written("a", 2, &json!({"admission": {"digests": "Resolve"}}), 2))));
        assert!(index.policy(Event::Apply(written("b", 1, &digests(), 2))), "a new one");
        index.policy(Event::Delete(written("b", 1, &digests(), 3)));
        assert!(index.policy(Event::Apply(written("b", 1, &digests(), 2))), "it is back");
        assert_eq!(index.compile().in_force().count(), 2);
    }

    #[test]
    fn a_policy_that_can_not_be_read_stays_as_it_was() {
        let mut index = Index::new("zastava-system");
        listed(&mut index, &[("a", digests())]);
        let garbled = || policy("a", &json!({"mode": "Sometimes"}));
        assert!(garbled().0.is_err());
        index.policy(Event::Apply(garbled()));
        assert_eq!(index.compile().in_force().count(), 1);
        index.policy(Event::Init);
        index.policy(Event::InitApply(garbled()));
        index.policy(Event::InitDone);
        let snapshot = index.compile();
        assert_eq!(snapshot.in_force().count(), 1);
        assert!(snapshot.deleted.is_empty());
    }

    #[test]
    fn policies_are_synced_when_every_key_they_name_was_read() {
        let mut index = Index::new("zastava-system");
        assert!(!index.synced());
        let spec = json!({"admission": {"signatures": [{"name": "release", "authorities": [{"key": {"secretRef": {"name": "k", "key": "cosign.pub"}}}]}]}});
        listed(&mut index, &[("a", spec)]);
        let (new, _) = index.name_keys();
        assert_eq!(new, [Source::Secret("k".to_owned())]);
        assert!(!index.synced());
        assert!(index.key(&new[0], Content::Absent));
        assert!(index.synced());
        listed(&mut index, &[]);
        assert_eq!(index.name_keys().1, new);
    }

    #[test]
    fn platforms_change_with_the_last_node_of_one() {
        let mut index = Index::new("zastava-system");
        index.node(Event::Init);
        index.node(Event::InitApply(node("a", "amd64")));
        assert!(!index.nodes_read(), "the list is not whole");
        assert!(index.node(Event::InitDone));
        assert!(index.nodes_read());
        assert!(!index.node(Event::Apply(node("b", "amd64"))));
        assert!(index.node(Event::Apply(node("c", "arm64"))));
        assert!(!index.node(Event::Delete(node("b", "amd64"))));
        assert!(index.node(Event::Delete(node("c", "arm64"))));
    }
}
