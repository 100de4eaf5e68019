//! The rules that every observer holds, assembled from policies and namespaces.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_core::watching;
use zastava_crds::{
    canonical::{self, CanonicalError},
    policy::ZastavaPolicy,
    wire::{
        event::PolicyRef,
        sync::{RuleSet, RuntimeRules},
    },
};

use crate::{policy::Policies, rollout::in_force};

/// Rule sets that are remembered: an observer may still hold one of them.
const REMEMBERED: usize = 16;

/// A rule set's hash, and its policies by UID and hash.
type Held = (String, HashSet<(String, String)>);
type Labels = BTreeMap<String, BTreeMap<String, String>>;

/// The rule set in force and the namespaces it speaks of. Empty until policies and namespaces have been read once, so
/// that no observer is ever told "no rules" because the operator had not looked yet.
#[derive(Clone, Debug)]
pub struct RuleBook {
    rules: watch::Receiver<Option<Arc<RuleSet>>>,
    namespaces: Arc<Mutex<BTreeSet<String>>>,
    held: Arc<Mutex<VecDeque<Held>>>,
}

impl RuleBook {
    /// Starts to watch. `exempt` namespaces are left out of the rules.
    pub fn start(client: &Client, policies: Policies, exempt: BTreeSet<String>, token: &CancellationToken) -> Self {
        let (tx, rules) = watch::channel(None);
        let namespaces = Arc::new(Mutex::new(BTreeSet::new()));
        let held = Arc::default();
        let follow = follow(client.clone(), policies, exempt, tx, namespaces.clone(), Arc::clone(&held));
        tokio::spawn(token.clone().run_until_cancelled_owned(follow));
        Self { rules, namespaces, held }
    }

    /// Whether one of the last rule sets has this hash, and holds the policy of this UID with a spec of this hash.
    pub fn holds(&self, rules: &str, uid: &str, policy: &str) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (uid.to_owned(), policy.to_owned());
        held.iter().any(|(hash, policies)| hash == rules && policies.contains(&key))
    }

    /// The rules in force, `None` before the first were read.
    pub fn current(&self) -> Option<Arc<RuleSet>> {
        self.rules.borrow().clone()
    }

    /// Waits for rules whose hash is not `hash`.
    pub async fn other_than(&self, hash: &str) -> Arc<RuleSet> {
        let mut rules = self.rules.clone();
        let differ = |rules: &Option<Arc<RuleSet>>| rules.as_ref().is_some_and(|rules| rules.hash != hash);
        let found = rules.wait_for(differ).await.ok().and_then(|rules| rules.clone());
        match found {
            Some(rules) => rules,
            None => std::future::pending().await,
        }
    }

    /// Whether a namespace exists, exempt or not. True while that is not known.
    pub fn namespace_exists(&self, namespace: &str) -> bool {
        let known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_empty() || known.contains(namespace)
    }

    /// A book of fixed rules, for tests of other rooms.
    #[cfg(test)]
    pub fn fixed(rules: RuleSet) -> (Self, watch::Sender<Option<Arc<RuleSet>>>) {
        let (tx, receiver) = watch::channel(Some(Arc::new(rules)));
        (Self { rules: receiver, namespaces: Arc::default(), held: Arc::default() }, tx)
    }
}

async fn follow(
    client: Client,
    mut policies: Policies,
    exempt: BTreeSet<String>,
    rules: watch::Sender<Option<Arc<RuleSet>>>,
    existing: Arc<Mutex<BTreeSet<String>>>,
    held: Arc<Mutex<VecDeque<Held>>>,
) {
    policies.synced().await;
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(watching::pauses()));
    let mut labels = Labels::new();
    let mut listed = Labels::new();
    let mut synced = false;
    loop {
        tokio::select! {
            () = policies.changed() => {}
            event = events.next() => match event {
                None => return,
                Some(Err(error)) => tracing::warn!(%error, "watch of namespaces failed, trying again"),
                Some(Ok(watcher::Event::Init)) => listed.clear(),
                Some(Ok(watcher::Event::InitApply(ns))) => {
                    listed.insert(ns.name_any(), ns.metadata.labels.unwrap_or_default());
                    continue;
                }
                Some(Ok(watcher::Event::InitDone)) => {
                    labels = std::mem::take(&mut listed);
                    synced = true;
                }
                Some(Ok(watcher::Event::Apply(ns))) => {
                    labels.insert(ns.name_any(), ns.metadata.labels.unwrap_or_default());
                }
                Some(Ok(watcher::Event::Delete(ns))) => {
                    labels.remove(&ns.name_any());
                }
            }
        }
        if !synced {
            continue;
        }
        *existing.lock().unwrap_or_else(PoisonError::into_inner) = labels.keys().cloned().collect();
        match rule_set(&policies.all(), &labels, &exempt) {
            Ok(new) => {
                // Before an observer can hold it.
                remember(&mut held.lock().unwrap_or_else(PoisonError::into_inner), &new);
                rules.send_if_modified(|old| {
                    let changed = old.as_ref().is_none_or(|old| old.hash != new.hash);
                    if changed {
                        tracing::info!(hash = new.hash, policies = new.policies.len(), "rules for observers changed");
                        *old = Some(Arc::new(new));
                    }
                    changed
                });
            }
            Err(error) => tracing::error!(%error, category = error.category(), "rules could not be assembled"),
        }
    }
}

fn remember(held: &mut VecDeque<Held>, rules: &RuleSet) {
    if held.back().is_some_and(|(hash, _)| *hash == rules.hash) {
        return;
    }
    let policies = rules.policies.iter().map(|rules| (rules.policy.uid.clone(), rules.policy.hash.clone())).collect();
    held.push_back((rules.hash.clone(), policies));
    if held.len() > REMEMBERED {
        held.pop_front();
    }
}

/// The rules of these policies and namespaces. A suspended policy is left out, and so is one that can't be honoured
/// whole: half a policy in force would look like a whole one.
///
/// # Errors
/// [`CanonicalError`] for a policy that JSON cannot carry, which the API server never stores.
pub fn rule_set<P: AsRef<ZastavaPolicy>>(
    policies: &[P],
    namespaces: &Labels,
    exempt: &BTreeSet<String>,
) -> Result<RuleSet, CanonicalError> {
    let mut rules = Vec::new();
    for policy in policies.iter().map(AsRef::as_ref) {
        let spec = &policy.spec;
        let Some(runtime) = &spec.runtime else { continue };
        if policy.metadata.deletion_timestamp.is_some() || in_force(policy).is_err() {
            continue;
        }
        rules.push(RuntimeRules {
            policy: PolicyRef {
                name: policy.name_any(),
                uid: policy.uid().unwrap_or_default(),
                hash: canonical::hash(spec)?,
            },
            mode: spec.mode,
            namespace_selector: spec.match_.namespace_selector.clone(),
            pod_selector: spec.match_.pod_selector.clone(),
            images: spec.match_.images.clone(),
            drift: runtime.drift.clone(),
            processes: runtime.processes.clone(),
            libraries: runtime.libraries,
        });
    }
    rules.sort_by(|a, b| a.policy.cmp(&b.policy));
    let namespaces =
        namespaces.iter().filter(|(name, _)| !exempt.contains(*name)).map(|(n, l)| (n.clone(), l.clone())).collect();
    let mut set = RuleSet { hash: String::new(), policies: rules, namespaces };
    set.hash = canonical::hash(&set)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use zastava_crds::policy::{MatchSpec, ZastavaPolicySpec};

    use super::*;

    fn policy(name: &str, change: impl FnOnce(&mut ZastavaPolicySpec)) -> Arc<ZastavaPolicy> {
        let mut spec: ZastavaPolicySpec = serde_json::from_value(serde_json::json!({"runtime": {}})).unwrap();
        spec.match_ = MatchSpec::default();
        change(&mut spec);
        Arc::new(ZastavaPolicy::new(name, spec))
    }

    fn names(policies: &[Arc<ZastavaPolicy>]) -> Vec<String> {
        let set = rule_set(policies, &Labels::new(), &BTreeSet::new()).unwrap();
        set.policies.into_iter().map(|rules| rules.policy.name).collect()
    }

    #[test]
    fn only_policies_in_force_become_rules() {
        let policies = [
            policy("b", |_| {}),
            policy("a", |_| {}),
            policy("suspended", |spec| spec.suspend = true),
            policy("admission-only", |spec| spec.runtime = None),
            policy("unsupported", |spec| {
                spec.scan = Some(serde_json::from_value(serde_json::json!({"on": ["Posture"]})).unwrap());
            }),
        ];
        assert_eq!(names(&policies), ["a", "b"]);
    }

    #[test]
    fn equal_rules_have_equal_hashes_and_exempt_namespaces_are_left_out() {
        let labels = |names: &[&str]| -> Labels { names.iter().map(|n| ((*n).to_owned(), BTreeMap::new())).collect() };
        let exempt = BTreeSet::from(["kube-system".to_owned()]);
        let (a, b) = (policy("a", |_| {}), policy("b", |_| {}));
        let one = rule_set(&[a.clone(), b.clone()], &labels(&["x", "kube-system"]), &exempt).unwrap();
        let two = rule_set(&[b, a], &labels(&["x"]), &exempt).unwrap();
        assert_eq!(one, two);
        assert!(one.namespaces.contains_key("x") && one.hash.starts_with("sha256:"));
        let three = rule_set::<Arc<ZastavaPolicy>>(&[], &labels(&["x"]), &exempt).unwrap();
        assert_ne!(one.hash, three.hash);
    }

    #[test]
    fn the_last_rule_sets_are_remembered() {
        let set = |hash: usize, policy: &str| {
            let rules = rule_set(&[policy_with(policy)], &Labels::new(), &BTreeSet::new()).unwrap();
            RuleSet { hash: hash.to_string(), ..rules }
        };
        let mut book = RuleBook::fixed(RuleSet::default()).0;
        book.held = Arc::new(Mutex::new(VecDeque::new()));
        let note = |rules: &RuleSet| remember(&mut book.held.lock().unwrap(), rules);
        let (first, hash) = (set(0, "a"), set(0, "a").policies[0].policy.hash.clone());
        note(&first);
        note(&first);
        assert!(book.holds("0", "uid-a", &hash));
        assert!(!book.holds("0", "uid-a", "other") && !book.holds("1", "uid-a", &hash));
        for n in 1..=REMEMBERED {
            note(&set(n, "b"));
        }
        assert!(!book.holds("0", "uid-a", &hash), "it is forgotten");
        assert!(book.holds("1", "uid-b", &hash), "the hash is of the spec alone");
    }

    fn policy_with(name: &str) -> Arc<ZastavaPolicy> {
        let mut policy = (*policy(name, |_| {})).clone();
        policy.metadata.uid = Some(format!("uid-{name}"));
        Arc::new(policy)
    }

    #[tokio::test]
    async fn waiting_ends_with_other_rules_only() {
        let first = RuleSet { hash: "1".into(), ..RuleSet::default() };
        let (book, tx) = RuleBook::fixed(first);
        assert_eq!(book.other_than("").await.hash, "1");
        let waiting = tokio::spawn({
            let book = book.clone();
            async move { book.other_than("1").await.hash.clone() }
        });
        tx.send_replace(Some(Arc::new(RuleSet { hash: "2".into(), ..RuleSet::default() })));
        assert_eq!(waiting.await.unwrap(), "2");
    }
}
