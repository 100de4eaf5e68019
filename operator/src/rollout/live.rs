//! The objects that the operator makes or hangs its own on, as they are: one watch by name each, never a poll.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        apps::v1::{DaemonSet, Deployment},
        core::v1::{ConfigMap, Secret, Service},
        policy::v1::PodDisruptionBudget,
        rbac::v1::ClusterRole,
    },
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use strum::IntoEnumIterator as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_core::watching;

use super::installation::Installation;
use crate::certificates::{CA_SECRET, INTAKE_SECRET, TRUST_CONFIG_MAP, WEBHOOK_SECRET};

/// Each object that the operator watches by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Object {
    /// The chart's ClusterRole that owns what lies outside the release's namespace. Never written.
    ClusterOwner,
    /// The operator's own Deployment, owner of what lies in the release's namespace. Never written.
    ReleaseOwner,
    /// The authority.
    CaSecret,
    /// The webhook's leaf.
    WebhookSecret,
    /// The intake's leaf.
    IntakeSecret,
    /// Trust in the intake, for webhooks.
    WebhookTrust,
    /// Trust in the intake, for observers.
    ObserverTrust,
    /// Settings of the webhook.
    WebhookSettings,
    /// Service of the webhook.
    WebhookService,
    /// Disruption budget of the webhook.
    WebhookBudget,
    /// The webhook.
    WebhookDeployment,
    /// The observer.
    ObserverDaemonSet,
    /// The mutating webhook configuration.
    Mutating,
    /// The validating webhook configuration.
    Validating,
    /// What holds without the webhook.
    Guard,
    /// That it holds.
    GuardBinding,
}

impl Object {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterOwner => "zastava-owned",
            Self::ReleaseOwner => "zastava-operator",
            Self::CaSecret => CA_SECRET,
            Self::WebhookSecret => WEBHOOK_SECRET,
            Self::IntakeSecret => INTAKE_SECRET,
            Self::WebhookTrust | Self::ObserverTrust => TRUST_CONFIG_MAP,
            Self::WebhookSettings | Self::WebhookService | Self::WebhookBudget | Self::WebhookDeployment => {
                "zastava-webhook"
            }
            Self::ObserverDaemonSet => "zastava-observer",
            Self::Mutating | Self::Validating | Self::Guard | Self::GuardBinding => "zastava",
        }
    }

    fn resource(self) -> ApiResource {
        match self {
            Self::ClusterOwner => ApiResource::erase::<ClusterRole>(&()),
            Self::ReleaseOwner | Self::WebhookDeployment => ApiResource::erase::<Deployment>(&()),
            Self::CaSecret | Self::WebhookSecret | Self::IntakeSecret => ApiResource::erase::<Secret>(&()),
            Self::WebhookTrust | Self::ObserverTrust | Self::WebhookSettings => ApiResource::erase::<ConfigMap>(&()),
            Self::WebhookService => ApiResource::erase::<Service>(&()),
            Self::WebhookBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::ObserverDaemonSet => ApiResource::erase::<DaemonSet>(&()),
            Self::Mutating => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
            Self::Validating => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
            Self::Guard => ApiResource::erase::<ValidatingAdmissionPolicy>(&()),
            Self::GuardBinding => ApiResource::erase::<ValidatingAdmissionPolicyBinding>(&()),
        }
    }

    /// The API that holds it.
    pub fn api(self, client: Client, installation: &Installation) -> Api<DynamicObject> {
        match self {
            Self::ClusterOwner | Self::Mutating | Self::Validating | Self::Guard | Self::GuardBinding => {
                Api::all_with(client, &self.resource())
            }
            Self::ObserverTrust | Self::ObserverDaemonSet => {
                Api::namespaced_with(client, &installation.observer.namespace, &self.resource())
            }
            _ => Api::namespaced_with(client, &installation.namespace, &self.resource()),
        }
    }

    /// `kind name`, for messages.
    pub fn describe(self) -> String {
        format!("{} {}", self.resource().kind, self.name())
    }
}

/// The objects at one moment. An object that is not in it has not been looked at yet.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(BTreeMap<Object, Option<Arc<DynamicObject>>>);

impl Snapshot {
    /// The object, if it is there.
    pub fn get(&self, object: Object) -> Option<&DynamicObject> {
        self.0.get(&object)?.as_deref()
    }

    /// The object as its type, if it is there and of that type.
    pub fn typed<K: Resource<DynamicType = (), Scope = S> + DeserializeOwned, S: Scope>(
        &self,
        object: Object,
    ) -> Option<K> {
        let value = serde_json::to_value(self.get(object)?).ok()?;
        serde_json::from_value(value).ok()
    }

    /// Everything has been looked at.
    pub fn is_complete(&self) -> bool {
        Object::iter().all(|object| self.0.contains_key(&object))
    }

    #[cfg(test)]
    pub(super) fn of(objects: impl IntoIterator<Item = (Object, Option<DynamicObject>)>) -> Self {
        Self(objects.into_iter().map(|(object, value)| (object, value.map(Arc::new))).collect())
    }
}

/// Scopes of the objects that are watched.
pub trait Scope {}
impl Scope for NamespaceResourceScope {}
impl Scope for k8s_openapi::ClusterResourceScope {}

/// The objects, kept up to date.
#[derive(Clone, Debug)]
pub struct Live(watch::Receiver<Snapshot>);

impl Live {
    /// Starts one watch an object.
    pub fn start(client: &Client, installation: &Installation, token: &CancellationToken) -> Self {
        let (tx, rx) = watch::channel(Snapshot::default());
        let tx = Arc::new(tx);
        for object in Object::iter() {
            let api = object.api(client.clone(), installation);
            tokio::spawn(token.clone().run_until_cancelled_owned(follow(object, api, tx.clone())));
        }
        Self(rx)
    }

    /// The objects now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.borrow().clone()
    }

    /// Waits for a change since the last call.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The receiver, for those who wait in their own way.
    pub fn receiver(&self) -> watch::Receiver<Snapshot> {
        self.0.clone()
    }
}

async fn follow(object: Object, api: Api<DynamicObject>, tx: Arc<watch::Sender<Snapshot>>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", object.name()));
    let mut events = watcher(api, config).backoff(watching::pauses()).boxed();
    let mut seen = false;
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(watcher::Event::Init) => {
                seen = false;
                continue;
            }
            Ok(watcher::Event::InitApply(found)) => {
                seen = true;
                Some(found)
            }
            Ok(watcher::Event::Apply(found)) => Some(found),
            Ok(watcher::Event::InitDone) if seen => continue,
            Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => None,
            Err(error) => {
                tracing::warn!(object = object.describe(), %error, "watch failed, trying again");
                continue;
            }
        };
        let now = now.map(|mut found| {
            found.metadata.managed_fields = None;
            Arc::new(found)
        });
        tx.send_modify(|snapshot| {
            snapshot.0.insert(object, now);
        });
    }
}
