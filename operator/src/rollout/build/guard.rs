//! The guard: what the API server holds by itself, with no webhook to ask.
//!
//! Only what a pod says of itself can be held so: that an image is written with its digest. A signature can't be. It
//! refuses nothing that the webhook would let in: where a glob or an exception can't be decided from the written form,
//! it says nothing.

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec,
        Validation, Variable,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use zastava_crds::policy::{LabelSelector, MatchSpec};

use super::{
    GuardResources,
    configuration::{exempting, pod_rules},
    expression::{images_changed, images_of_pod, selects, text, texts},
    metadata::{Component, metadata},
    written::{is_pinned, may_match, must_match},
};
use crate::rollout::{
    installation::Installation,
    validate::{Exemption, Guard},
};

const NAME: &str = "zastava";
/// Characters of a reference in a message at most: what is longer falls back to the message without it.
const MAX_SHOWN: usize = 512;

/// Builds it, if there is anything to hold.
pub(super) fn build(installation: &Installation, guards: &[&Guard], owner: &OwnerReference) -> Option<GuardResources> {
    let held: Vec<_> = guards.iter().filter_map(|guard| Some((guard.name.as_str(), refused(guard)?))).collect();
    if held.is_empty() {
        return None;
    }
    let meta = || metadata(installation, Component::Webhook, NAME, None, owner);
    let mut variables = surroundings();
    for (i, (_, refused)) in held.iter().enumerate() {
        variables.push(variable(&format!("refused{i}"), refused.clone()));
    }
    let policy = ValidatingAdmissionPolicy {
        metadata: meta(),
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_constraints: Some(MatchResources {
                match_policy: Some("Equivalent".to_owned()),
                namespace_selector: Some(exempting(installation, None)),
                object_selector: Some(LabelSelector::default()),
                resource_rules: Some(pod_rules().into_iter().map(named).collect()),
                ..MatchResources::default()
            }),
            match_conditions: Some(vec![MatchCondition {
                name: "images-changed".to_owned(),
                expression: images_changed(),
            }]),
            variables: Some(variables),
            validations: Some(held.iter().enumerate().map(|(i, (name, _))| validation(i, name)).collect()),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        status: None,
    };
    let binding = ValidatingAdmissionPolicyBinding {
        metadata: meta(),
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(NAME.to_owned()),
            // The webhook is asked after this, so that its record of a refusal is missing: the audit log has it.
            validation_actions: Some(vec!["Deny".to_owned(), "Audit".to_owned()]),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        }),
    };
    Some(GuardResources { policy, binding })
}

fn variable(name: &str, expression: String) -> Variable {
    Variable { name: name.to_owned(), expression }
}

/// What all policies look at, worked out once.
fn surroundings() -> Vec<Variable> {
    let unpinned = format!("!({})", is_pinned());
    vec![
        variable("podLabels", "has(object.metadata.labels) ? object.metadata.labels : {}".to_owned()),
        variable(
            "namespaceLabels",
            "namespaceObject != null && has(namespaceObject.metadata.labels) ? namespaceObject.metadata.labels : {}"
                .to_owned(),
        ),
        variable("unpinned", images_of_pod("object", &unpinned)),
        variable(
            "before",
            format!(
                "request.operation == 'UPDATE' && oldObject != null ? {} : []",
                images_of_pod("oldObject", &unpinned)
            ),
        ),
        variable("introduced", "variables.unpinned.filter(u, !(u in variables.before))".to_owned()),
    ]
}

/// The images that a policy refuses; none where nothing can be said without the webhook.
fn refused(guard: &Guard) -> Option<String> {
    let MatchSpec { namespace_selector, pod_selector, images } = &guard.scope;
    let mut scope = Vec::new();
    if let Some(selector) = namespace_selector {
        scope.push(selects(selector, "variables.namespaceLabels"));
    }
    if let Some(selector) = pod_selector {
        scope.push(selects(selector, "variables.podLabels"));
    }
    let mut image = Vec::new();
    if !images.is_empty() {
        image.push(must_match(images.iter().map(String::as_str))?);
    }
    for exemption in &guard.exemptions {
        image.push(format!("!({})", exempts(exemption)));
    }
    if image.is_empty() {
        image.push("true".to_owned());
    }
    if scope.is_empty() {
        scope.push("true".to_owned());
    }
    Some(format!(
        "({}) ? variables.introduced.filter(u, [u.image].all(r, {})) : []",
        scope.join(" && "),
        image.join(" && ")
    ))
}

/// Whether an exception may cover `r`.
fn exempts(exemption: &Exemption) -> String {
    let mut all = Vec::new();
    if !exemption.namespaces.is_empty() {
        all.push(format!("request.namespace in {}", texts(exemption.namespaces.iter().map(String::as_str))));
    }
    if let Some(selector) = &exemption.pod_selector {
        all.push(selects(selector, "variables.podLabels"));
    }
    if let Some(globs) = &exemption.images {
        all.extend(may_match(globs.iter().map(String::as_str)));
    }
    if all.is_empty() { "true".to_owned() } else { all.join(" && ") }
}

fn validation(i: usize, policy: &str) -> Validation {
    let refused = format!("variables.refused{i}");
    let asks = format!("policy {policy} asks digests: Require, and the reference has no digest");
    let next = "next: write the reference as name@sha256:…";
    let message = format!(
        "{refused}[0].at + ': ' + {refused}[0].image.substring(0, {refused}[0].image.size() > {MAX_SHOWN} \
         ? {MAX_SHOWN} : {refused}[0].image.size()) + {} + (size({refused}) > 1 ? {} + string(size({refused}) - 1) : '')",
        text(&format!(": {asks}; {next}")),
        text("; more such images: "),
    );
    Validation {
        expression: format!("size({refused}) == 0"),
        message: Some(format!("{asks}; {next}")),
        message_expression: Some(message),
        reason: Some("Forbidden".to_owned()),
    }
}

fn named(rule: k8s_openapi::api::admissionregistration::v1::RuleWithOperations) -> NamedRuleWithOperations {
    NamedRuleWithOperations {
        api_groups: rule.api_groups,
        api_versions: rule.api_versions,
        operations: rule.operations,
        resource_names: None,
        resources: rule.resources,
        scope: rule.scope,
    }
}
