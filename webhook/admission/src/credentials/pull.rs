//! Credentials for a workload's images, merged as the kubelet merges them: the pod's pull secrets, its service
//! account's, and what is configured for Zastava. Tenants' secrets are read in listed namespaces only.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::future::join_all;
use moka::future::Cache;
use tokio::time::{Instant, timeout_at};
use zastava_verify::{answer::UnknownCause, keychain::Keychain};

use crate::{cluster::Cluster, review::request::Workload};

/// How long a pull secret is remembered: a changed one counts this much later.
const TTL: Duration = Duration::from_mins(1);
/// Pull secrets and service accounts remembered at most.
const MAX_SECRETS: u64 = 1_000;
/// Bytes that a pull secret counts for at least: a thousand small ones are remembered, or 16 MiB of large ones.
const LEAST_WEIGHT: u32 = 16 * 1024;
/// Longest that a workload's pull secrets are waited for: what is left of the deadline is for its images.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pull secrets looked at for one workload at most.
const MAX_FOR_ONE: usize = 16;

/// Where credentials come from.
#[derive(Debug)]
pub struct Credentials {
    listed: BTreeSet<String>,
    configured: ArcSwap<Keychain>,
    secrets: Cache<(String, String), Held>,
    accounts: Cache<(String, String), Arc<Vec<String>>>,
}

/// A pull secret as it is remembered.
#[derive(Clone, Debug)]
struct Held {
    keychain: Arc<Keychain>,
    weight: u32,
}

/// What a workload's images are asked for with.
#[derive(Debug)]
pub struct Access {
    /// All credentials that could be had.
    pub keychain: Keychain,
    /// Why there may be more that could not, and what to do.
    pub withheld: Option<String>,
}

impl Credentials {
    /// Reads pull secrets in these namespaces and no others.
    pub fn new(listed: impl IntoIterator<Item = String>) -> Self {
        let secrets = Cache::builder()
            .weigher(|_, held: &Held| held.weight)
            .max_capacity(MAX_SECRETS * u64::from(LEAST_WEIGHT))
            .time_to_live(TTL)
            .build();
        let accounts = Cache::builder().max_capacity(MAX_SECRETS).time_to_live(TTL).build();
        Self { listed: listed.into_iter().collect(), configured: ArcSwap::default(), secrets, accounts }
    }

    /// Sets the credentials that are configured for Zastava itself.
    pub fn configure(&self, keychain: Keychain) {
        self.configured.store(Arc::new(keychain));
    }

    /// The credentials that are configured for Zastava itself.
    pub fn configured(&self) -> Arc<Keychain> {
        self.configured.load_full()
    }

    /// The credentials for a workload. What can't be read in time is left out, and `withheld` says so.
    pub async fn of(&self, cluster: &impl Cluster, workload: &Workload, deadline: Instant) -> Access {
        let configured = self.configured.load();
        if !self.listed.contains(&workload.namespace) {
            let withheld = format!(
                "if a pull secret is needed: add namespace {} to registries.pullSecrets.namespaces of Zastava's chart",
                workload.namespace
            );
            return Access { keychain: Keychain::clone(&configured), withheld: Some(withheld) };
        }
        let until = deadline.min(Instant::now() + PATIENCE);
        let (keychain, withheld) = self.read(cluster, workload, until).await;
        Access { keychain: keychain.merged(&configured), withheld }
    }

    /// What could be read, and what went wrong with the rest.
    async fn read(&self, cluster: &impl Cluster, workload: &Workload, until: Instant) -> (Keychain, Option<String>) {
        let namespace = &workload.namespace;
        let late = |what: String| format!("{what} could not be read in time: try again");
        let of_account = self.of_account(cluster, namespace, &workload.service_account);
        let (of_account, mut wrong) = match timeout_at(until, of_account).await {
            Ok(Ok(names)) => (names, None),
            Ok(Err(why)) => (Arc::default(), Some(why)),
            Err(_) => (Arc::default(), Some(late(format!("service account {namespace}/{}", workload.service_account)))),
        };
        let mut names: Vec<&String> = Vec::new();
        for name in workload.pull_secrets.iter().chain(of_account.iter()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > MAX_FOR_ONE {
            wrong = Some(format!("the pod names {} pull secrets, {MAX_FOR_ONE} are read", names.len()));
        }
        let read = names.into_iter().take(MAX_FOR_ONE).map(|name| async move {
            let secret = timeout_at(until, self.of_secret(cluster, namespace, name)).await;
            secret.unwrap_or_else(|_| Err(late(format!("pull secret {namespace}/{name}"))))
        });
        let mut keychain = Keychain::default();
        for secret in join_all(read).await {
            match secret {
                Ok(secret) => keychain = keychain.merged(&secret),
                Err(why) => wrong = Some(why),
            }
        }
        (keychain, wrong)
    }

    async fn of_account(
        &self,
        cluster: &impl Cluster,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Vec<String>>, String> {
        let key = (namespace.to_owned(), name.to_owned());
        let read = async {
            let names = cluster.pull_secrets_of(namespace, name).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(Arc::new(names.unwrap_or_default()))
        };
        self.accounts.try_get_with(key, read).await.map_err(|error| String::clone(&error))
    }

    /// The kubelet goes on without a pull secret that does not exist, and so does this; it is looked for again each time.
    async fn of_secret(&self, cluster: &impl Cluster, namespace: &str, name: &str) -> Result<Arc<Keychain>, String> {
        let key = (namespace.to_owned(), name.to_owned());
        let what = || format!("pull secret {namespace}/{name}");
        let read = async {
            let config = cluster.pull_secret(namespace, name).await.map_err(|error| error.to_string())?;
            let config = config.ok_or_else(|| format!("{} does not exist", what()))?;
            let keychain = Keychain::from_docker_config(&config).map_err(|error| format!("{}: {error}", what()))?;
            if let Some(ignored) = keychain.ignored() {
                tracing::warn!(secret = what(), "{ignored}");
            }
            let weight = u32::try_from(keychain.weight()).unwrap_or(u32::MAX).max(LEAST_WEIGHT);
            Ok(Held { keychain: Arc::new(keychain), weight })
        };
        let held = self.secrets.try_get_with(key, read).await.map_err(|error| String::clone(&error))?;
        Ok(held.keychain)
    }
}

impl Access {
    /// What to do about an unknown verdict: where credentials were withheld and may be what is missing, how to give them.
    pub fn next_step(&self, cause: UnknownCause, otherwise: String) -> String {
        match (&self.withheld, cause) {
            (Some(withheld), UnknownCause::Unauthorized | UnknownCause::ImageNotFound) => withheld.clone(),
            _ => otherwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;
    use tokio::sync::Barrier;

    use super::*;
    use crate::{
        cluster::ClusterError,
        fixtures::{SIGNED, pod, review},
        policies::policy::Labels,
        review::request::{Asked, read},
    };

    /// An API server with a service account, whose pull secrets come and go.
    #[derive(Default)]
    struct Secrets {
        there: Mutex<Vec<&'static str>>,
        asked: Mutex<Vec<String>>,
        /// The Secret that is never given.
        hangs: Option<&'static str>,
        /// How many Secrets must be asked for before any is given.
        together: Option<Barrier>,
        /// Length of the passwords.
        padding: usize,
    }

    impl Cluster for Secrets {
        async fn namespace_labels(&self, _: &str) -> Result<Option<Labels>, ClusterError> {
            Ok(None)
        }

        async fn pull_secrets_of(&self, _: &str, account: &str) -> Result<Option<Vec<String>>, ClusterError> {
            self.asked.lock().unwrap().push(account.to_owned());
            Ok(Some(vec!["account".to_owned(), "pod".to_owned()]))
        }

        async fn pull_secret(&self, _: &str, name: &str) -> Result<Option<Vec<u8>>, ClusterError> {
            self.asked.lock().unwrap().push(name.to_owned());
            if let Some(together) = &self.together {
                together.wait().await;
            }
            if self.hangs == Some(name) {
                std::future::pending::<()>().await;
            }
            let password = "p".repeat(self.padding);
            let config = json!({"auths": {format!("{name}.example"): {"username": "u", "password": password}}});
            Ok(self.there.lock().unwrap().contains(&name).then(|| config.to_string().into_bytes()))
        }
    }

    fn workload() -> Box<Workload> {
        let mut pod = pod(SIGNED);
        pod["spec"]["imagePullSecrets"] = json!([{"name": "pod"}]);
        pod["spec"]["serviceAccountName"] = json!("builder");
        let review: kube::core::admission::AdmissionReview<kube::core::DynamicObject> =
            serde_json::from_value(review("CREATE", &pod, None)).unwrap();
        match read(review.request.unwrap()) {
            Asked::Images(workload) => workload,
            Asked::Nothing(why) => panic!("{why}"),
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn the_pods_and_its_service_accounts_are_merged_and_each_is_read_once() {
        let cluster = Secrets { there: Mutex::new(vec!["pod", "account"]), ..Secrets::default() };
        let credentials = Credentials::new(["default".to_owned()]);
        for _ in 0..2 {
            let access = credentials.of(&cluster, &workload(), soon()).await;
            assert!(!access.keychain.is_empty());
            assert_eq!(access.withheld, None);
        }
        assert_eq!(*cluster.asked.lock().unwrap(), ["builder", "pod", "account"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_hangs_leaves_time_to_verify_and_what_it_gave_counts() {
        let cluster =
            Secrets { there: Mutex::new(vec!["pod", "account"]), hangs: Some("account"), ..Secrets::default() };
        let began = Instant::now();
        let access = Credentials::new(["default".to_owned()]).of(&cluster, &workload(), soon()).await;
        assert!(began.elapsed() <= PATIENCE, "{:?}", began.elapsed());
        assert!(access.withheld.unwrap().contains("pull secret default/account could not be read in time"));
        assert!(!access.keychain.is_empty(), "the other one was read");
    }

    #[tokio::test(start_paused = true)]
    async fn pull_secrets_are_read_at_the_same_time() {
        let cluster = Secrets {
            there: Mutex::new(vec!["pod", "account"]),
            together: Some(Barrier::new(2)),
            ..Secrets::default()
        };
        let access = Credentials::new(["default".to_owned()]).of(&cluster, &workload(), soon()).await;
        assert_eq!(access.withheld, None);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_by_its_size() {
        let cluster = Secrets { there: Mutex::new(vec!["pod"]), padding: 900_000, ..Secrets::default() };
        let credentials = Credentials::new(["default".to_owned()]);
        for n in 0..40 {
            credentials.of_secret(&cluster, &format!("n{n}"), "pod").await.unwrap();
        }
        credentials.secrets.run_pending_tasks().await;
        let held: u64 = credentials.secrets.entry_count();
        assert!((1..=18).contains(&held), "{held}");
    }

    #[tokio::test]
    async fn a_namespace_that_is_not_listed_is_not_asked_for_its_secrets() {
        let cluster = Secrets::default();
        let access = Credentials::new(["other".to_owned()]).of(&cluster, &workload(), soon()).await;
        assert!(cluster.asked.lock().unwrap().is_empty());
        assert!(access.withheld.unwrap().contains("add namespace default to registries.pullSecrets.namespaces"));
    }

    #[tokio::test]
    async fn a_secret_that_is_made_later_counts_at_once() {
        let cluster = Secrets { there: Mutex::new(vec!["account"]), ..Secrets::default() };
        let credentials = Credentials::new(["default".to_owned()]);
        let before = credentials.of(&cluster, &workload(), soon()).await;
        assert!(before.withheld.unwrap().contains("pull secret default/pod does not exist"));
        cluster.there.lock().unwrap().push("pod");
        assert_eq!(credentials.of(&cluster, &workload(), soon()).await.withheld, None);
    }
}
