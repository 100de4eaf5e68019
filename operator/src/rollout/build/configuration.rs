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

use super::{
    Configurations,
    metadata::{Component, metadata},
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
        mutating: plan
            .pins
            .then(|| MutatingWebhookConfiguration { metadata: meta.clone(), webhooks: Some(vec![entry.pinning()]) }),
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
    fn pinning(&self) -> MutatingWebhook {
        MutatingWebhook {
            name: format!("digests.{DOMAIN}"),
            client_config: self.client("/mutate".to_owned()),
            rules: Some(pod_rules()),
            // A pod that could not be pinned is judged by the validating entry.
            failure_policy: Some("Ignore".to_owned()),
            // Containers that another webhook adds later are pinned too.
            reinvocation_policy: Some("IfNeeded".to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(self.selector(None)),
            match_conditions: Some(vec![images_changed()]),
            side_effects: "NoneOnDryRun".to_owned(),
            timeout_seconds: Some(self.installation.webhook.timeout_seconds),
            admission_review_versions: vec!["v1".to_owned()],
            object_selector: None,
        }
    }

    /// The entry of a policy; a podSelector makes two of it, since on a template's owner an objectSelector would read
    /// the owner's labels instead of the pod's.
    fn gate(&self, gate: &Gate) -> Vec<ValidatingWebhook> {
        let entry = |name: String, rules, object_selector| ValidatingWebhook {
            name,
            client_config: self.client(format!("/validate/{}", gate.uid)),
            rules: Some(rules),
            failure_policy: Some(<&str>::from(gate.failure_policy).to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(self.selector(gate.namespace_selector.as_ref())),
            object_selector,
            match_conditions: Some(vec![images_changed()]),
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

    /// The policy's own selector, less the exempt namespaces, by the one label that no tenant can forge.
    fn selector(&self, own: Option<&LabelSelector>) -> LabelSelector {
        let mut selector = own.cloned().unwrap_or_default();
        selector.match_expressions.get_or_insert_with(Vec::new).push(LabelSelectorRequirement {
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(self.installation.exempt_namespaces.clone()),
        });
        selector
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

fn pod_rules() -> Vec<RuleWithOperations> {
    vec![rule("", &["pods", "pods/ephemeralcontainers"], &["CREATE", "UPDATE"])]
}

fn template_rules() -> Vec<RuleWithOperations> {
    vec![
        rule("", &["replicationcontrollers"], &["CREATE", "UPDATE"]),
        rule("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"], &["CREATE", "UPDATE"]),
        rule("batch", &["cronjobs", "jobs"], &["CREATE", "UPDATE"]),
    ]
}

/// An update that changes no image never leaves the API server: with the webhook dead, Jobs still finish and namespaces
/// still go. Each step is guarded by `has()`, because an error here would reject or skip the request.
fn images_changed() -> MatchCondition {
    let containers = "c, has(c.image) ? c.name + '=' + c.image : c.name";
    let volumes = "v, has(v.image) && has(v.image.reference) ? v.name + '=' + v.image.reference : v.name";
    let mut any = vec!["request.operation != 'UPDATE'".to_owned(), "oldObject == null".to_owned()];
    for path in ["spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec"] {
        for (field, entry) in [
            ("containers", containers),
            ("initContainers", containers),
            ("ephemeralContainers", containers),
            ("volumes", volumes),
        ] {
            any.push(format!(
                "{} != {}",
                images("object", path, field, entry),
                images("oldObject", path, field, entry)
            ));
        }
    }
    MatchCondition { name: "images-changed".to_owned(), expression: any.join(" || ") }
}

fn images(root: &str, path: &str, field: &str, entry: &str) -> String {
    let mut at = root.to_owned();
    let mut guards = Vec::new();
    for step in path.split('.').chain([field]) {
        at = format!("{at}.{step}");
        guards.push(format!("has({at})"));
    }
    format!("({} ? {at}.map({entry}) : [])", guards.join(" && "))
}
