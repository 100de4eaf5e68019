mod evaluated;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use zastava_crds::policy::{FailurePolicy, Unmatched};

use super::*;
use crate::{
    certificates::{Authority, TrustBundle},
    rollout::{installation::tests::installation, validate::Gate},
};

pub fn owners() -> Owners {
    let owner = |kind: &str, name: &str| OwnerReference {
        api_version: "v1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: format!("uid of {name}"),
        ..OwnerReference::default()
    };
    Owners { cluster: owner("ClusterRole", "zastava-owned"), release: owner("Deployment", "zastava-operator") }
}

fn gate(name: &str) -> Gate {
    Gate {
        name: name.into(),
        uid: format!("uid-{name}"),
        generation: 1,
        failure_policy: FailurePolicy::Ignore,
        namespace_selector: None,
        pod_selector: None,
        images: Vec::new(),
        unmatched: Unmatched::Allow,
        pins: true,
    }
}

fn plan(gates: Vec<Gate>) -> Plan {
    Plan { observed_by: 1, kills: false, gates, ..Plan::default() }
}

fn built(plan: &Plan, configured: bool, keep: bool) -> KubernetesResources<Prepared> {
    built_for(&installation(), plan, configured, keep)
}

fn built_for(installation: &Installation, plan: &Plan, configured: bool, keep: bool) -> KubernetesResources<Prepared> {
    let mut bundle = TrustBundle::default();
    bundle.add(Authority::mint(jiff::Timestamp::from_second(1_800_000_000).unwrap()).unwrap().cert);
    let trust = Trust { webhook: bundle.clone(), intake: bundle };
    build(installation, plan, &owners(), &trust, configured, keep)
}

fn webhooks(plan: &Plan) -> Vec<Value> {
    let validating = built(plan, true, false).configurations.unwrap().validating;
    validating.webhooks.unwrap().iter().map(|webhook| serde_json::to_value(webhook).unwrap()).collect()
}

#[test]
fn what_nobody_asks_for_is_absent() {
    let nothing = built(&Plan::default(), true, false);
    assert!(nothing.webhook.is_none() && nothing.observer.is_none() && nothing.configurations.is_none());
    let waiting = built(&plan(vec![gate("a")]), false, false);
    assert!(waiting.webhook.is_some() && waiting.configurations.is_none(), "no replica serves yet");
    let lingering = built(&Plan::default(), true, true);
    assert!(lingering.webhook.is_some() && lingering.configurations.is_none(), "an API server may still ask");
    let audit = built(&plan(vec![Gate { pins: false, ..gate("a") }]), true, false);
    assert!(audit.configurations.unwrap().mutating.is_none());
}

#[test]
fn everything_has_an_owner_where_garbage_collection_looks_for_it() {
    let KubernetesResources { webhook_trust, observer_trust, webhook, observer, configurations, .. } =
        built(&plan(vec![gate("a")]), true, false);
    let WebhookResources { settings, service, budget, deployment } = webhook.unwrap();
    let Configurations { mutating, validating } = configurations.unwrap();
    for object in [webhook_trust.metadata, settings.metadata, service.metadata, budget.metadata, deployment.metadata] {
        assert_eq!(object.namespace.as_deref(), Some("zastava-system"));
        assert_eq!(object.owner_references.unwrap(), [owners().release]);
    }
    for object in [observer_trust.metadata, observer.unwrap().metadata] {
        assert_eq!(object.namespace.as_deref(), Some("zastava-observer"));
        assert_eq!(object.owner_references.unwrap(), [owners().cluster]);
    }
    for object in [mutating.unwrap().metadata, validating.metadata] {
        assert_eq!(object.namespace, None);
        assert_eq!(object.owner_references.unwrap(), [owners().cluster]);
    }
}

#[test]
fn each_policy_has_its_entry_and_exempt_namespaces_have_none() {
    let mut strict = gate("strict");
    strict.failure_policy = FailurePolicy::Fail;
    strict.namespace_selector = serde_json::from_value(json!({"matchLabels": {"team": "shop"}})).unwrap();
    let entries = webhooks(&plan(vec![gate("lax"), strict]));
    let of = |pointer: &str| entries.iter().map(|entry| entry.pointer(pointer).unwrap().clone()).collect::<Vec<_>>();
    assert_eq!(
        of("/name"),
        [json!("lax.policy.zastava.stella-ops.org"), json!("strict.policy.zastava.stella-ops.org")]
    );
    assert_eq!(of("/clientConfig/service/path"), [json!("/validate/uid-lax"), json!("/validate/uid-strict")]);
    assert_eq!(of("/failurePolicy"), [json!("Ignore"), json!("Fail")]);
    let exempt = json!({
        "key": "kubernetes.io/metadata.name", "operator": "NotIn",
        "values": ["kube-system", "zastava-observer", "zastava-system"],
    });
    assert_eq!(of("/namespaceSelector/matchExpressions/0"), [exempt.clone(), exempt]);
    assert_eq!(entries[1].pointer("/namespaceSelector/matchLabels"), Some(&json!({"team": "shop"})));
    assert!(entries.iter().all(|entry| entry["sideEffects"] == "NoneOnDryRun" && entry["timeoutSeconds"] == 10));
}

#[test]
fn a_pod_selector_is_put_on_pods_only() {
    let mut labelled = gate("a");
    labelled.pod_selector = serde_json::from_value(json!({"matchLabels": {"app": "web"}})).unwrap();
    let entries = webhooks(&plan(vec![labelled]));
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["objectSelector"], json!({"matchLabels": {"app": "web"}}));
    assert_eq!(entries[0]["rules"].as_array().unwrap().len(), 1);
    assert_eq!(entries[0]["rules"][0]["resources"], json!(["pods", "pods/ephemeralcontainers"]));
    assert_eq!(entries[1].get("objectSelector"), None);
    let resources: Vec<_> =
        entries[1]["rules"].as_array().unwrap().iter().flat_map(|rule| rule["resources"].as_array().unwrap()).collect();
    assert!(!resources.contains(&&json!("pods")) && resources.contains(&&json!("deployments")));
}

#[test]
fn only_pods_are_mutated_and_never_against_their_creation() {
    let mutating = built(&plan(vec![gate("a")]), true, false).configurations.unwrap().mutating.unwrap();
    let [entry] = mutating.webhooks.unwrap().try_into().unwrap();
    assert_eq!(entry.failure_policy.as_deref(), Some("Ignore"));
    assert_eq!(entry.reinvocation_policy.as_deref(), Some("IfNeeded"));
    let resources: BTreeSet<_> = entry.rules.unwrap().into_iter().flat_map(|rule| rule.resources.unwrap()).collect();
    assert_eq!(resources, BTreeSet::from(["pods".to_owned(), "pods/ephemeralcontainers".to_owned()]));
}

#[test]
fn names_of_entries_are_told_apart_and_fit() {
    let long = |uid: &str| Gate { uid: uid.into(), ..gate(&"x".repeat(253)) };
    let names: BTreeSet<_> = webhooks(&plan(vec![long("1"), long("2"), gate("a")]))
        .iter()
        .map(|w| w["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.len() <= 253), "{names:?}");
}

fn template(plan: &Plan) -> PodTemplateSpec {
    built(plan, false, false).observer.unwrap().spec.unwrap().template
}

#[test]
fn the_observer_asks_for_what_the_reviewed_list_says_and_no_token_of_the_api() {
    let pod = template(&plan(Vec::new())).spec.unwrap();
    assert_eq!((pod.host_pid, pod.host_network, pod.host_ipc), (Some(true), None, None));
    assert_eq!(pod.automount_service_account_token, Some(false));
    let around = pod.security_context.clone().unwrap();
    assert_eq!(around.se_linux_options.unwrap().type_.unwrap(), "spc_t");
    assert_eq!(around.app_armor_profile.unwrap().type_, "Unconfined");
    assert_eq!(around.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let security = pod.containers[0].security_context.clone().unwrap();
    assert_eq!((security.privileged, security.allow_privilege_escalation), (Some(false), Some(false)));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    let capabilities = security.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    assert_eq!(capabilities.add.unwrap(), ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"]);
    let host: Vec<_> = pod.volumes.unwrap().into_iter().filter_map(|v| v.host_path).map(|h| h.path).collect();
    assert_eq!(host, ["/run/containerd", "/run/crio", "/sys/fs/bpf", "/sys/kernel/tracing", "/var/lib/zastava"]);
    let kills = Plan { kills: true, ..plan(Vec::new()) };
    let container = &template(&kills).spec.unwrap().containers[0];
    assert!(
        container.security_context.clone().unwrap().capabilities.unwrap().add.unwrap().contains(&"KILL".to_owned())
    );
}

#[test]
fn the_webhook_is_restricted_and_its_settings_make_new_pods() {
    let webhook = built(&plan(vec![gate("a")]), false, false).webhook.unwrap();
    let spec = webhook.deployment.spec.unwrap();
    let pod = spec.template.spec.clone().unwrap();
    assert_eq!(spec.replicas, Some(2));
    assert_eq!(pod.security_context.unwrap().run_as_non_root, Some(true));
    let security = pod.containers[0].security_context.clone().unwrap();
    assert_eq!(security.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    let hash = |template: PodTemplateSpec| template.metadata.unwrap().annotations.unwrap();
    let mut other = installation();
    other.webhook.settings = "other".into();
    let bundle = TrustBundle::default();
    let trust = Trust { webhook: bundle.clone(), intake: bundle };
    let changed = build(&other, &plan(vec![gate("a")]), &owners(), &trust, false, false).webhook.unwrap();
    assert_ne!(hash(spec.template), hash(changed.deployment.spec.unwrap().template));
    assert_eq!(webhook.settings.data.unwrap()["settings.yaml"], installation().webhook.settings);
}

#[test]
fn a_cloud_knows_the_webhooks_pods_by_labels_that_take_no_other_ones_place() {
    let mut installation = installation();
    for (key, value) in [("azure.workload.identity/use", "true"), ("app.kubernetes.io/component", "other")] {
        installation.webhook.pod_labels.insert(key.to_owned(), value.to_owned());
    }
    let template = webhook::build(&installation, &owners().release).deployment.spec.unwrap().template;
    let labels = template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels["azure.workload.identity/use"], "true");
    assert_eq!(labels["app.kubernetes.io/component"], "webhook");
}

#[test]
fn children_bear_labels_of_a_fixed_list() {
    let deployment = built(&plan(vec![gate("a")]), false, false).webhook.unwrap().deployment;
    let keys: Vec<_> = deployment.labels().keys().cloned().collect();
    assert_eq!(
        keys,
        ["component", "managed-by", "name", "part-of", "version"].map(|key| format!("app.kubernetes.io/{key}"))
    );
}

#[test]
fn the_webhook_proves_itself_to_the_backend_by_the_named_secrets_alone() {
    let pod = |installation: &Installation| {
        built_for(installation, &plan(vec![gate("a")]), true, false)
            .webhook
            .unwrap()
            .deployment
            .spec
            .unwrap()
            .template
            .spec
            .unwrap()
    };
    let volume = |pod: k8s_openapi::api::core::v1::PodSpec| {
        pod.volumes.unwrap().into_iter().find(|volume| volume.name == "backend")
    };
    let mut installation = installation();
    installation.backend.auth.certificate_secret = "client".to_owned();
    let found = serde_json::to_value(volume(pod(&installation)).unwrap().projected.unwrap().sources).unwrap();
    assert_eq!(
        found,
        json!([
            {"secret": {"name": "backend", "optional": true, "items": [{"key": "word", "path": "token"}]}},
            {"secret": {"name": "client", "optional": true, "items": [
                {"key": "tls.crt", "path": "tls.crt"}, {"key": "tls.key", "path": "tls.key"}]}},
        ])
    );
    installation.backend.url = String::new();
    assert!(volume(pod(&installation)).is_none());
}
