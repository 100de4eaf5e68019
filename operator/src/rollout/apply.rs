//! Writing: whole objects by server-side apply, and only when something differs from what was applied last.

use std::{collections::HashMap, fmt};

use kube::{
    Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde::Serialize;
use serde_json::Value;
use zastava_crds::canonical;

use super::{
    build::{Applied, Configurations, GuardResources, KubernetesResources, Prepared, WebhookResources},
    installation::Installation,
    live::{Object, Snapshot},
    report::Fault,
};
use crate::{
    FIELD_MANAGER,
    leader::{Leadership, NotLeading},
    metrics::Metrics,
};

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another replica leads.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// It can't be expressed.
    #[error("{0}")]
    Encode(#[from] canonical::CanonicalError),
    /// The API server refused.
    #[error("{0}")]
    Api(#[from] Box<kube::Error>),
    /// No answer before the lease could end; whether it was written shows in the watch.
    #[error("no answer before the end of this replica's claim to lead")]
    Timeout,
}

impl ApplyError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotLeading(error) => error.category(),
            Self::Encode(error) => error.category(),
            Self::Api(_) => "api",
            Self::Timeout => "timeout",
        }
    }
}

impl From<kube::Error> for ApplyError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// What was written last, and how the object looked after it.
#[derive(Debug)]
struct Written {
    desired: String,
    live: String,
}

/// The one who writes.
pub struct Applier {
    client: Client,
    leadership: Leadership,
    metrics: Metrics,
    written: HashMap<Object, Written>,
}

impl Applier {
    /// Writes nothing yet.
    pub fn new(client: Client, leadership: Leadership, metrics: Metrics) -> Self {
        Self { client, leadership, metrics, written: HashMap::new() }
    }

    /// Applies `desired` unless the object still is as the last apply of the same left it. Says whether it wrote.
    ///
    /// # Errors
    /// [`ApplyError`]; the object is then tried again at the next pass.
    pub async fn apply<K: Serialize + fmt::Debug>(
        &mut self,
        object: Object,
        desired: &K,
        installation: &Installation,
        snapshot: &Snapshot,
    ) -> Result<bool, ApplyError> {
        let result = Box::pin(self.try_apply(object, desired, installation, snapshot)).await;
        match &result {
            Ok(true) => self.metrics.wrote(object.into(), "applied"),
            Ok(false) => {}
            Err(error) => self.metrics.wrote(object.into(), error.category()),
        }
        result
    }

    async fn try_apply<K: Serialize + fmt::Debug>(
        &mut self,
        object: Object,
        desired: &K,
        installation: &Installation,
        snapshot: &Snapshot,
    ) -> Result<bool, ApplyError> {
        let desired_hash = canonical::hash(desired)?;
        if let (Some(live), Some(written)) = (snapshot.get(object), self.written.get(&object))
            && written.desired == desired_hash
            && written.live == fingerprint(live)?
        {
            return Ok(false);
        }
        let api = object.api(self.client.clone(), installation);
        // Force: these objects are ours alone, and a field that somebody else took over comes back.
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let claim = self.leadership.claim()?;
        let patch = Patch::Apply(desired);
        let apply = api.patch(object.name(), &params, &patch);
        let after = tokio::time::timeout_at(claim.deadline(), apply).await.map_err(|_| ApplyError::Timeout)??;
        tracing::info!(object = object.describe(), version = after.metadata.resource_version, "applied");
        self.written.insert(object, Written { desired: desired_hash, live: fingerprint(&after)? });
        Ok(true)
    }

    /// Removes an object, if it is there and ours. Says whether it did.
    ///
    /// # Errors
    /// [`ApplyError`]; it is then tried again at the next pass.
    pub async fn remove(
        &mut self,
        object: Object,
        installation: &Installation,
        snapshot: &Snapshot,
    ) -> Result<bool, ApplyError> {
        let ours = |live: &&DynamicObject| {
            let labels = live.metadata.labels.as_ref();
            live.metadata.deletion_timestamp.is_none()
                && labels.and_then(|l| l.get("app.kubernetes.io/managed-by")).is_some_and(|m| m == FIELD_MANAGER)
        };
        let Some(live) = snapshot.get(object).filter(ours) else { return Ok(false) };
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: live.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::background()
        };
        let claim = self.leadership.claim()?;
        let api = object.api(self.client.clone(), installation);
        let delete = Box::pin(api.delete(object.name(), &params));
        match tokio::time::timeout_at(claim.deadline(), delete).await.map_err(|_| ApplyError::Timeout)? {
            Ok(_) => {
                tracing::info!(object = object.describe(), "removed");
                self.metrics.wrote(object.into(), "removed");
            }
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => {
                self.metrics.wrote(object.into(), "api");
                return Err(error.into());
            }
        }
        self.written.remove(&object);
        Ok(true)
    }

    /// Makes the cluster hold exactly `resources`. Configurations go before the workload does, and come after it.
    ///
    /// # Errors
    /// One [`Fault`] an object that could not be written; the others were.
    pub async fn rollout(
        &mut self,
        resources: KubernetesResources<Prepared>,
        installation: &Installation,
        snapshot: &Snapshot,
    ) -> Result<KubernetesResources<Applied>, Vec<Fault>> {
        let mut pass = Pass { applier: self, installation, snapshot, faults: Vec::new() };
        Box::pin(pass.run(&resources)).await;
        if pass.faults.is_empty() { Ok(resources.applied()) } else { Err(pass.faults) }
    }
}

struct Pass<'a> {
    applier: &'a mut Applier,
    installation: &'a Installation,
    snapshot: &'a Snapshot,
    faults: Vec<Fault>,
}

impl Pass<'_> {
    async fn run(&mut self, resources: &KubernetesResources<Prepared>) {
        // Without `..`, so that a new kind can't be forgotten.
        let KubernetesResources { webhook_trust, observer_trust, webhook, observer, configurations, guard, .. } =
            resources;
        let (mutating, validating) = match configurations {
            Some(Configurations { mutating, validating }) => (mutating.as_ref(), Some(validating)),
            None => (None, None),
        };
        if mutating.is_none() {
            self.sync::<()>(Object::Mutating, None).await;
        }
        if validating.is_none() {
            self.sync::<()>(Object::Validating, None).await;
        }
        let held = guard.as_ref().map(|GuardResources { policy, binding }| (policy, binding));
        if held.is_none() {
            self.sync::<()>(Object::GuardBinding, None).await;
            self.sync::<()>(Object::Guard, None).await;
        }
        self.sync(Object::WebhookTrust, Some(webhook_trust)).await;
        self.sync(Object::ObserverTrust, Some(observer_trust)).await;
        let parts = webhook
            .as_ref()
            .map(|WebhookResources { settings, service, budget, deployment }| (settings, service, budget, deployment));
        self.sync(Object::WebhookSettings, parts.map(|p| p.0)).await;
        self.sync(Object::WebhookService, parts.map(|p| p.1)).await;
        self.sync(Object::WebhookBudget, parts.map(|p| p.2)).await;
        self.sync(Object::WebhookDeployment, parts.map(|p| p.3)).await;
        self.sync(Object::ObserverDaemonSet, observer.as_ref()).await;
        if let Some(mutating) = mutating {
            self.sync(Object::Mutating, Some(mutating)).await;
        }
        if let Some(validating) = validating {
            self.sync(Object::Validating, Some(validating)).await;
        }
        if let Some((policy, binding)) = held {
            self.sync(Object::Guard, Some(policy)).await;
            self.sync(Object::GuardBinding, Some(binding)).await;
        }
    }

    async fn sync<K: Serialize + fmt::Debug>(&mut self, object: Object, desired: Option<&K>) {
        let result = match desired {
            Some(desired) => self.applier.apply(object, desired, self.installation, self.snapshot).await,
            None => self.applier.remove(object, self.installation, self.snapshot).await,
        };
        if let Err(error) = result {
            tracing::warn!(object = object.describe(), %error, category = error.category(), "not applied");
            self.faults.push(Fault { object, message: error.to_string() });
        }
    }
}

/// Hash of an object without what the API server or its controllers write by themselves.
fn fingerprint(object: &DynamicObject) -> Result<String, canonical::CanonicalError> {
    let mut value = serde_json::to_value(object)?;
    if let Some(root) = value.as_object_mut() {
        // A list leaves kind and version of its items out.
        for field in ["status", "apiVersion", "kind"] {
            root.remove(field);
        }
        if let Some(metadata) = root.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["resourceVersion", "managedFields", "generation", "creationTimestamp"] {
                metadata.remove(field);
            }
        }
    }
    canonical::hash(&value)
}

#[cfg(test)]
mod tests;
