//! From a plan to whole objects. Pure: no clock, no cluster.

mod configuration;
mod expression;
mod guard;
mod metadata;
mod observer;
mod pod;
mod webhook;
mod written;

use std::marker::PhantomData;

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        apps::v1::{DaemonSet, Deployment},
        core::v1::{ConfigMap, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

pub use self::{
    metadata::{Component, metadata},
    pod::{INTAKE_CA_FILE, INTAKE_TOKEN_FILE},
};
use super::{installation::Installation, validate::Plan};
use crate::certificates::TrustBundle;

/// Built, and not yet in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;
/// In the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

/// All that the operator deploys; absent is what nobody asks for, and is removed.
#[derive(Clone, Debug)]
pub struct KubernetesResources<Stage> {
    /// Trust in the intake, for webhooks.
    pub webhook_trust: ConfigMap,
    /// Trust in the intake, for observers.
    pub observer_trust: ConfigMap,
    /// The webhook.
    pub webhook: Option<WebhookResources>,
    /// The observer.
    pub observer: Option<DaemonSet>,
    /// What makes the API server ask the webhook.
    pub configurations: Option<Configurations>,
    /// What holds without the webhook.
    pub guard: Option<GuardResources>,
    stage: PhantomData<Stage>,
}

/// The webhook's objects.
#[derive(Clone, Debug)]
pub struct WebhookResources {
    /// Its settings.
    pub settings: ConfigMap,
    /// Its service.
    pub service: Service,
    /// Its disruption budget.
    pub budget: PodDisruptionBudget,
    /// Itself.
    pub deployment: Deployment,
}

/// What makes the API server ask the webhook.
#[derive(Clone, Debug)]
pub struct Configurations {
    /// Pins digests; absent while no policy pins.
    pub mutating: Option<MutatingWebhookConfiguration>,
    /// One entry a policy.
    pub validating: ValidatingWebhookConfiguration,
}

/// What the API server holds by itself.
#[derive(Clone, Debug)]
pub struct GuardResources {
    /// What is held.
    pub policy: ValidatingAdmissionPolicy,
    /// That it is.
    pub binding: ValidatingAdmissionPolicyBinding,
}

impl KubernetesResources<Prepared> {
    /// These are in the cluster: said by the one who applied them.
    pub(super) fn applied(self) -> KubernetesResources<Applied> {
        let Self { webhook_trust, observer_trust, webhook, observer, configurations, guard, stage: PhantomData } = self;
        let stage = PhantomData;
        KubernetesResources { webhook_trust, observer_trust, webhook, observer, configurations, guard, stage }
    }
}

/// Who owns what is made.
#[derive(Clone, Debug)]
pub struct Owners {
    /// Of what lies outside the release's namespace.
    pub cluster: OwnerReference,
    /// Of what lies in it.
    pub release: OwnerReference,
}

/// Whom to trust.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Verifies the webhook.
    pub webhook: TrustBundle,
    /// Verifies the intake.
    pub intake: TrustBundle,
}

/// Builds all objects. `configured` says whether the API server may be made to ask the webhook, `keep_webhook` that it
/// may still do so by a configuration that was removed a moment ago.
pub fn build(
    installation: &Installation,
    plan: &Plan,
    owners: &Owners,
    trust: &Trust,
    configured: bool,
    keep_webhook: bool,
) -> KubernetesResources<Prepared> {
    let gated = !plan.gates.is_empty();
    // Where the API server refuses what it can't ask about, there is nothing to add.
    let guards: Vec<_> = plan.guards.iter().filter(|guard| guard.always || !configured).collect();
    KubernetesResources {
        webhook_trust: metadata::trust(installation, &owners.release, &installation.namespace, &trust.intake),
        observer_trust: metadata::trust(installation, &owners.cluster, &installation.observer.namespace, &trust.intake),
        webhook: (gated || keep_webhook).then(|| webhook::build(installation, &owners.release)),
        observer: (plan.observed_by > 0).then(|| observer::build(installation, plan, &owners.cluster)),
        configurations: (gated && configured)
            .then(|| configuration::build(installation, plan, &owners.cluster, &trust.webhook)),
        guard: guard::build(installation, &guards, &owners.cluster),
        stage: PhantomData,
    }
}

#[cfg(test)]
pub(super) mod tests;
