//! The webhook's own way from a review to its answer, over a folder's objects instead of a cluster.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    core::{
        DynamicObject, PartialObjectMeta,
        admission::{AdmissionResponse, AdmissionReview},
    },
    runtime::{reflector, watcher::Event},
};
use serde::Serialize;
use tokio::{sync::Semaphore, time::Instant};
use zastava_admission::{
    cluster::{Cluster, ClusterError, docker_config},
    credentials::pull::Credentials,
    metrics::Metrics,
    policies::{policy::Labels, snapshot::World},
    report::queue::{self, Outbox},
    server::app::App,
    warm::Recent,
};
use zastava_core::backend::verdicts::Verdicts;
use zastava_verify::{
    keychain::Keychain,
    registry::Registry,
    verifier::{Verifier, VerifierSettings},
};

use super::{
    case::Case,
    expect::Answer,
    folder::{Folder, FolderError},
};
use crate::resources::Resources;

/// What was decided.
#[derive(Clone, Debug, Serialize)]
pub struct Decided {
    /// Over all policies.
    pub answer: Answer,
    /// Under each policy, by name.
    pub policies: Vec<PolicyDecision>,
    /// References that were pinned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<String>,
}

/// The answer under one policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyDecision {
    /// Its name.
    pub policy: String,
    /// As the audit annotation `decision` says it; `not_asked` where the webhook looks at nothing.
    pub outcome: String,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Warnings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Decided {
    /// Every line that the person who applies is told.
    pub fn told(&self) -> impl Iterator<Item = &str> {
        let messages = self.policies.iter().flat_map(|decision| decision.message.iter().flat_map(|text| text.lines()));
        messages.chain(self.policies.iter().flat_map(|decision| decision.warnings.iter().map(String::as_str)))
    }
}

/// A case that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The folder's policies can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The webhook would answer with an error.
    #[error("{file}: {why}")]
    NoAnswer {
        /// The case.
        file: String,
        /// Why.
        why: String,
    },
}

impl AnswerError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.category(),
            Self::NoAnswer { .. } => "no_answer",
        }
    }
}

/// Answers as the webhook does.
pub struct Answerer<'a> {
    folder: &'a Folder,
    registry: Registry,
    keychain: Keychain,
    timeout: Duration,
}

impl<'a> Answerer<'a> {
    /// Over a folder's policies and objects.
    pub fn new(folder: &'a Folder, registry: Registry, keychain: Keychain, timeout: Duration) -> Self {
        Self { folder, registry, keychain, timeout }
    }

    /// What is decided about a case: pinned first, then judged under each policy.
    pub async fn decide(&self, case: &Case) -> Result<Decided, AnswerError> {
        let no_answer = |why: String| AnswerError::NoAnswer { file: case.file.display().to_string(), why };
        let (app, _outbox) = self.app().await?;
        let deadline = Instant::now() + self.timeout;
        let request = case.request().map_err(no_answer)?;
        let mutated = app.mutate(request, deadline).await.map_err(|error| no_answer(error.to_string()))?;
        let patch = patch(mutated).map_err(no_answer)?;
        let pinned = pinned(&patch);
        let mut policies = Vec::with_capacity(self.folder.policies.len());
        for written in &self.folder.policies {
            let request = case.patched(&patch).map_err(no_answer)?;
            let review = app.validate(&written.uid(), request, deadline).await;
            let response = response(review.map_err(|error| no_answer(error.to_string()))?).map_err(no_answer)?;
            policies.push(PolicyDecision {
                policy: written.name(),
                outcome: response.audit_annotations.get("decision").cloned().unwrap_or_else(|| "not_asked".to_owned()),
                message: (!response.allowed).then_some(response.result.message),
                warnings: response.warnings.unwrap_or_default(),
            });
        }
        let answer = if policies.iter().any(|decision| decision.message.is_some()) {
            Answer::Denied
        } else if policies.iter().any(|decision| !decision.warnings.is_empty()) {
            Answer::Warned
        } else {
            Answer::Allowed
        };
        Ok(Decided { answer, policies, pinned })
    }

    async fn app(&self) -> Result<(App<Verifier, Objects>, Outbox), AnswerError> {
        let (namespaces, mut seen) = reflector::store();
        for (name, labels) in self.folder.resources.namespaces() {
            let mut namespace = PartialObjectMeta::<Namespace>::default();
            namespace.metadata.name = Some(name.clone());
            namespace.metadata.labels = Some(labels.clone());
            seen.apply_watcher_event(&Event::Apply(namespace));
        }
        let world = World::new(namespaces);
        world.publish(self.folder.snapshot().await?);
        let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default());
        let (reporter, outbox) = queue::queue(metrics.clone());
        // Every namespace whose pull secret is here is as one that the chart lists.
        let credentials = Credentials::new(self.folder.resources.with_secrets());
        credentials.configure(self.keychain.clone());
        let settings = VerifierSettings { work_timeout: self.timeout, ..VerifierSettings::default() };
        let app = App {
            engine: Verifier::new(self.registry.clone(), settings),
            cluster: Objects(self.folder.resources.clone()),
            verdicts: Verdicts::not_configured(),
            world: Arc::new(world),
            credentials: Arc::new(credentials),
            exempt: BTreeSet::new(),
            recent: Recent::default(),
            reporter,
            metrics,
            work: Semaphore::new(1),
        };
        Ok((app, outbox))
    }
}

/// The objects of a folder, as the API server would give them.
struct Objects(Arc<Resources>);

impl Cluster for Objects {
    async fn namespace_labels(&self, name: &str) -> Result<Option<Labels>, ClusterError> {
        let labels = self.0.namespace_labels(name).cloned();
        labels.map(Some).ok_or_else(|| ClusterError::Unavailable {
            what: format!("namespace {name}"),
            why: "the folder has none: put its manifest into resources/".to_owned(),
        })
    }

    async fn pull_secrets_of(&self, namespace: &str, name: &str) -> Result<Option<Vec<String>>, ClusterError> {
        let account = self.0.account(namespace, name);
        Ok(account.map(|account| account.image_pull_secrets.iter().flatten().map(|s| s.name.clone()).collect()))
    }

    async fn pull_secret(&self, namespace: &str, name: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        Ok(self.0.secret(namespace, name).cloned().and_then(docker_config))
    }
}

fn response(review: AdmissionReview<DynamicObject>) -> Result<AdmissionResponse, String> {
    review.response.ok_or_else(|| "the webhook answers without a response".to_owned())
}

fn patch(review: AdmissionReview<DynamicObject>) -> Result<json_patch::Patch, String> {
    match response(review)?.patch {
        None => Ok(json_patch::Patch::default()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("the patch can't be read: {error}")),
    }
}

fn pinned(patch: &json_patch::Patch) -> Vec<String> {
    let values = patch.0.iter().filter_map(|operation| match operation {
        json_patch::PatchOperation::Replace(replace) => replace.value.as_str(),
        _ => None,
    });
    values.map(str::to_owned).collect()
}
