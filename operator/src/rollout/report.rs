//! What a pass says to the policies' statuses. It is made from applied objects only.

use std::collections::BTreeMap;

use super::{
    build::{Applied, KubernetesResources},
    live::Object,
    validate::Plan,
};

/// An object that could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub object: Object,
    /// Why.
    pub message: String,
}

/// What is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployed {
    /// The observer's DaemonSet.
    pub observer: bool,
    /// The webhook's Deployment.
    pub webhook: bool,
    /// Ready replicas of the webhook that serve the published certificate.
    pub serving: u32,
    /// Policies that the API server asks the webhook about: UID and the generation that is deployed.
    pub gates: BTreeMap<String, i64>,
}

impl Deployed {
    /// From what was applied for `plan`.
    pub(super) fn new(resources: &KubernetesResources<Applied>, plan: &Plan, serving: u32) -> Self {
        let gates = plan.gates.iter().map(|gate| (gate.uid.clone(), gate.generation));
        Self {
            observer: resources.observer.is_some(),
            webhook: resources.webhook.is_some(),
            serving,
            gates: if resources.configurations.is_some() { gates.collect() } else { BTreeMap::new() },
        }
    }
}

/// The outcome of the last pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is deployed; absent when the last pass failed or none was made yet.
    pub deployed: Option<Deployed>,
    /// What could not be written.
    pub faults: Vec<Fault>,
}
