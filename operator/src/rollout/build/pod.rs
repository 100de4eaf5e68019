//! Parts that the pods of webhook and observer share.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath, LocalObjectReference,
        ObjectFieldSelector, Probe, ProjectedVolumeSource, SecretProjection, ServiceAccountTokenProjection, Volume,
        VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use zastava_core::settings::backend::{
    BACKEND_CERTIFICATE, BACKEND_FILES, BACKEND_KEY, BACKEND_TOKEN, BackendAuth, BackendValues,
};
use zastava_crds::wire::report::AUDIENCE;

use crate::{
    certificates::TRUST_CONFIG_MAP,
    rollout::installation::{Installation, Placement},
};

/// Directory of the intake's trust.
const INTAKE_CA: &str = "/var/run/zastava/intake-ca";
/// Directory of the token for the intake.
const INTAKE_TOKEN: &str = "/var/run/zastava/intake-token";
/// The certificates that vouch for the intake.
pub const INTAKE_CA_FILE: &str = "/var/run/zastava/intake-ca/ca.crt";
/// The token for the intake.
pub const INTAKE_TOKEN_FILE: &str = "/var/run/zastava/intake-token/token";

/// Name of the plain port of probes, status and metrics.
const HTTP: &str = "http";

pub(super) fn http_port() -> ContainerPort {
    ContainerPort {
        name: Some(HTTP.to_owned()),
        container_port: 8080,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(HTTP.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

pub(super) fn readiness() -> Probe {
    probe("/health/readiness", 2, 3)
}

pub(super) fn liveness() -> Probe {
    probe("/health/liveness", 10, 6)
}

pub(super) fn value_env(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

pub(super) fn field_env(name: &str, path: &str) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() });
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref, ..EnvVarSource::default() }),
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// How a reporter knows the intake, and how the intake knows it: trust by ConfigMap, a token for this audience alone.
pub(super) fn intake_volumes() -> (Vec<Volume>, Vec<VolumeMount>) {
    let token = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        expiration_seconds: Some(3600),
        path: "token".to_owned(),
    };
    let volumes = vec![
        Volume {
            name: "intake-ca".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: TRUST_CONFIG_MAP.to_owned(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "intake-token".to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(vec![VolumeProjection {
                    service_account_token: Some(token),
                    ..VolumeProjection::default()
                }]),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    let mounts = vec![mount("intake-ca", INTAKE_CA, true), mount("intake-token", INTAKE_TOKEN, true)];
    (volumes, mounts)
}

/// What proves to the backend who asks. A Secret that is not there yet keeps no pod from starting: policies say what
/// becomes of an image meanwhile.
pub(super) fn backend_volume(backend: &BackendValues) -> Option<(Volume, VolumeMount)> {
    let entry = |secret: &str, entries: &[(&str, &str)]| {
        let items = entries.iter().map(|(key, path)| KeyToPath {
            key: (*key).to_owned(),
            path: (*path).to_owned(),
            ..KeyToPath::default()
        });
        VolumeProjection {
            secret: Some(SecretProjection {
                name: secret.to_owned(),
                items: Some(items.collect()),
                optional: Some(true),
            }),
            ..VolumeProjection::default()
        }
    };
    let BackendAuth { token_secret, certificate_secret } = &backend.auth;
    let mut sources = Vec::new();
    if !token_secret.name.is_empty() {
        sources.push(entry(&token_secret.name, &[(&token_secret.key, BACKEND_TOKEN)]));
    }
    if !certificate_secret.is_empty() {
        let entries = [(BACKEND_CERTIFICATE, BACKEND_CERTIFICATE), (BACKEND_KEY, BACKEND_KEY)];
        sources.push(entry(certificate_secret, &entries));
    }
    let volume = Volume {
        name: "backend".to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), ..ProjectedVolumeSource::default() }),
        ..Volume::default()
    };
    backend.is_configured().then(|| (volume, mount("backend", BACKEND_FILES, true)))
}

pub(super) fn pull_secrets(installation: &Installation) -> Option<Vec<LocalObjectReference>> {
    let names = &installation.pull_secrets;
    (!names.is_empty()).then(|| names.iter().map(|name| LocalObjectReference { name: name.clone() }).collect())
}

pub(super) fn priority_class(placement: &Placement) -> Option<String> {
    Some(placement.priority_class.clone()).filter(|name| !name.is_empty())
}

pub(super) fn node_selector(placement: &Placement) -> Option<BTreeMap<String, String>> {
    Some(placement.node_selector.clone()).filter(|labels| !labels.is_empty())
}
