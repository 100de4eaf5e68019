//! The webhook configurations: which requests the API server asks about, and what it does when nobody answers.

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference},
};
use sha2::{Digest, Sha256};
use zastava_crds::policy::Unmatched;

use super::{
    Configurations,
    expression::{any_image, images_changed},
    metadata::{Component, metadata},
    written::may_match,
};
use crate::{
    certificates::TrustBundle,
    rollout::{
        installation::Installation,
        validate::{Gate, Plan},
    },
};

const NAME: &str = "zastava";
const DOMAIN: &str = "zastava.stella-ops.org";
/// Name of a webhook at most: a DNS subdomain.
const MAX_NAME: usize = 253;

pub(super) fn build(
    installation: &Installation,
    plan: &Plan,
    owner: &OwnerReference,
    bundle: &TrustBundle,
) -> Configurations {
    let meta: ObjectMeta = metadata(installation, Component::Webhook, NAME, None, owner);
    let entry = Entry { installation, bundle };
    Configurations {
        mutating: plan.pinning().next().is_some().then(|| MutatingWebhookConfiguration {
            metadata: meta.clone(),
            webhooks: Some(vec![entry.pinning(&plan.pinning().collect::<Vec<_>>())]),
        }),
        validating: ValidatingWebhookConfiguration {
            metadata: meta,
            webhooks: Some(plan.gates.iter().flat_map(|gate| entry.gate(gate)).collect()),
        },
    }
}

struct Entry<'a> {
    installation: &'a Installation,
    bundle: &'a TrustBundle,
}

impl Entry<'_> {
    fn client(&self, path: String) -> WebhookClientConfig {
        WebhookClientConfig {
            ca_bundle: Some(ByteString(self.bundle.to_pem().into_bytes())),
            service: Some(ServiceReference {
                name: "zastava-webhook".to_owned(),
                namespace: self.installation.namespace.clone(),
                path: Some(path),
                port: Some(443),
            }),
            url: None,
        }
    }

    /// Pins digests on pods, and only on pods: workload templates belong to whoever applies them.
    fn pinning(&self, gates: &[&Gate]) -> MutatingWebhook {
        // One entry for all: it can be narrowed only by what all of them leave out.
        let images: Vec<_> = if gates.iter().any(|gate| gate.images.is_empty()) {
            Vec::new()
        } else {
            gates.iter().flat_map(|gate| gate.images.clone()).collect()
        };
        MutatingWebhook {
            name: format!("digests.{DOMAIN}"),
            client_config: self.client("/mutate".to_owned()),
            rules: Some(pod_rules()),
            // A pod that could not be pinned is judged by the validating entry.
            failure_policy: Some("Ignore".to_owned()),
            // Containers that another webhook adds later are pinned too.
            reinvocation_policy: Some("IfNeeded".to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(exempting(
                self.installation,
                shared(gates, |gate| gate.namespace_selector.as_ref()),
            )),
            match_conditions: Some(conditions(&images)),
            side_effects: "NoneOnDryRun".to_owned(),
            timeout_seconds: Some(self.installation.webhook.timeout_seconds),
            admission_review_versions: vec!["v1".to_owned()],
            object_selector: shared(gates, |gate| gate.pod_selector.as_ref()).cloned(),
        }
    }

    /// The entry of a policy; a podSelector makes two of it, since on a template's owner an objectSelector would read
    /// the owner's labels instead of the pod's.
    fn gate(&self, gate: &Gate) -> Vec<ValidatingWebhook> {
        let asked = match gate.unmatched {
            Unmatched::Allow => gate.images.as_slice(),
            Unmatched::Deny => &[],
        };
        let entry = |name: String, rules, object_selector| ValidatingWebhook {
            name,
            client_config: self.client(format!("/validate/{}", gate.uid)),
            rules: Some(rules),
            failure_policy: Some(<&str>::from(gate.failure_policy).to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(exempting(self.installation, gate.namespace_selector.as_ref())),
            object_selector,
            match_conditions: Some(conditions(asked)),
            side_effects: "NoneOnDryRun".to_owned(),
            timeout_seconds: Some(self.installation.webhook.timeout_seconds),
            admission_review_versions: vec!["v1".to_owned()],
        };
        match &gate.pod_selector {
            None => vec![entry(name("policy", gate), [pod_rules(), template_rules()].concat(), None)],
            Some(selector) => vec![
                entry(name("pods.policy", gate), pod_rules(), Some(selector.clone())),
                entry(name("templates.policy", gate), template_rules(), None),
            ],
        }
    }
}

/// A denial names the webhook, so it bears the policy's name where that fits.
fn name(prefix: &str, gate: &Gate) -> String {
    let readable = format!("{}.{prefix}.{DOMAIN}", gate.name);
    if readable.len() <= MAX_NAME {
        return readable;
    }
    format!("{}.{prefix}.{DOMAIN}", &hex::encode(Sha256::digest(&gate.uid))[..32])
}

fn rule(group: &str, resources: &[&str], operations: &[&str]) -> RuleWithOperations {
    let owned = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&["v1"]),
        resources: owned(resources),
        operations: owned(operations),
        scope: Some("Namespaced".to_owned()),
    }
}

pub(super) fn pod_rules() -> Vec<RuleWithOperations> {
    vec![rule("", &["pods", "pods/ephemeralcontainers"], &["CREATE", "UPDATE"])]
}

fn template_rules() -> Vec<RuleWithOperations> {
    vec![
        rule("", &["replicationcontrollers"], &["CREATE", "UPDATE"]),
        rule("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"], &["CREATE", "UPDATE"]),
        rule("batch", &["cronjobs", "jobs"], &["CREATE", "UPDATE"]),
    ]
}

/// Which requests are asked about at all. The API server takes 64 conditions, and of long expressions nothing.
fn conditions(images: &[String]) -> Vec<MatchCondition> {
    let mut conditions = vec![MatchCondition { name: "images-changed".to_owned(), expression: images_changed() }];
    if let Some(may) = may_match(images.iter().map(String::as_str)) {
        conditions.push(MatchCondition { name: "images-selected".to_owned(), expression: any_image(&may) });
    }
    conditions
}

/// The selector that all of them have, if they have one.
fn shared<'a>(gates: &[&'a Gate], of: impl Fn(&'a Gate) -> Option<&'a LabelSelector>) -> Option<&'a LabelSelector> {
    let (first, rest) = gates.split_first()?;
    let selector = of(first)?;
    rest.iter().all(|gate| of(gate) == Some(selector)).then_some(selector)
}

/// A selector, less the exempt namespaces, by the one label that no tenant can forge.
pub(super) fn exempting(installation: &Installation, own: Option<&LabelSelector>) -> LabelSelector {
    let mut selector = own.cloned().unwrap_or_default();
    selector.match_expressions.get_or_insert_with(Vec::new).push(LabelSelectorRequirement {
        key: "kubernetes.io/metadata.name".to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(installation.exempt_namespaces.clone()),
    });
    selector
}
