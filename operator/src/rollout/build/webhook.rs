//! The webhook's Deployment and what it needs, at pod-security level restricted.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, Lifecycle, LifecycleHandler,
            PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext, Service, ServicePort,
            ServiceSpec, SleepAction, TopologySpreadConstraint, Volume, VolumeMount,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};

use super::{
    WebhookResources,
    metadata::{Component, config_hash, metadata},
    pod::{
        backend_volume, field_env, http_port, intake_volumes, liveness, mount, node_selector, priority_class,
        pull_secrets, readiness, value_env,
    },
};
use crate::rollout::installation::Installation;

const NAME: &str = "zastava-webhook";
const SETTINGS_KEY: &str = "settings.yaml";
const PORT: i32 = 9443;
const PORT_NAME: &str = "webhook";

pub(super) fn build(installation: &Installation, owner: &OwnerReference) -> WebhookResources {
    let meta = || metadata(installation, Component::Webhook, NAME, Some(&installation.namespace), owner);
    WebhookResources {
        settings: ConfigMap {
            metadata: meta(),
            data: Some(BTreeMap::from([(SETTINGS_KEY.to_owned(), installation.webhook.settings.clone())])),
            ..ConfigMap::default()
        },
        service: service(meta()),
        budget: PodDisruptionBudget {
            metadata: meta(),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(Component::Webhook.label_selector()),
                // A replica that can't start must not keep its node from being drained.
                unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
                ..PodDisruptionBudgetSpec::default()
            }),
            status: None,
        },
        deployment: deployment(installation, meta()),
    }
}

fn service(metadata: ObjectMeta) -> Service {
    let port = ServicePort {
        name: Some(PORT_NAME.to_owned()),
        port: 443,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(PORT_NAME.to_owned())),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        selector: Some(Component::Webhook.selector()),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    Service { metadata, spec: Some(spec), status: None }
}

fn deployment(installation: &Installation, metadata: ObjectMeta) -> Deployment {
    let webhook = &installation.webhook;
    let spread = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].map(|key| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(Component::Webhook.label_selector()),
        ..TopologySpreadConstraint::default()
    });
    let (mut volumes, mut mounts) = intake_volumes();
    volumes.push(Volume {
        name: "settings".to_owned(),
        config_map: Some(ConfigMapVolumeSource { name: NAME.to_owned(), ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    });
    mounts.push(mount("settings", "/etc/zastava", true));
    if let Some((volume, mount)) = backend_volume(&installation.backend) {
        volumes.push(volume);
        mounts.push(mount);
    }
    let pod = PodSpec {
        service_account_name: Some(NAME.to_owned()),
        automount_service_account_token: Some(true),
        image_pull_secrets: pull_secrets(installation),
        priority_class_name: priority_class(&webhook.placement),
        node_selector: node_selector(&webhook.placement),
        tolerations: Some(webhook.placement.tolerations.clone()).filter(|t| !t.is_empty()),
        topology_spread_constraints: Some(spread.to_vec()),
        termination_grace_period_seconds: Some(50),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(65532),
            run_as_group: Some(65532),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(installation, mounts)],
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(webhook.replicas),
            selector: Component::Webhook.label_selector(),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                // A replica goes only when its successor is ready: an update refuses no request.
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels(installation)),
                    annotations: Some(config_hash(&webhook.settings)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// Zastava's own labels select its pods, so that no other takes their place.
fn pod_labels(installation: &Installation) -> BTreeMap<String, String> {
    let mut labels = installation.webhook.pod_labels.clone();
    labels.extend(Component::Webhook.labels(installation));
    labels
}

fn container(installation: &Installation, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: "webhook".to_owned(),
        image: Some(installation.webhook.image.clone()),
        image_pull_policy: Some(installation.pull_policy.clone()),
        env: Some(vec![
            field_env("POD_NAME", "metadata.name"),
            field_env("POD_NAMESPACE", "metadata.namespace"),
            field_env("POD_UID", "metadata.uid"),
            value_env("ZASTAVA_INTAKE_NAME", &installation.intake_name()),
        ]),
        ports: Some(vec![
            http_port(),
            ContainerPort {
                name: Some(PORT_NAME.to_owned()),
                container_port: PORT,
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            },
        ]),
        // The port opens when the leaf is loaded; readiness waits for the caches too.
        readiness_probe: Some(readiness()),
        liveness_probe: Some(liveness()),
        lifecycle: Some(Lifecycle {
            // Until every kube-proxy has taken the replica out of the service, it goes on answering; and where all
            // replicas go at once, until their successors are ready.
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: 15 }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(installation.webhook.placement.resources.clone()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}
