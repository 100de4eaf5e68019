//! The ways out when the webhook is dead and pods must start all the same.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use zastava_e2e::release::{self, NAMESPACE};
use zastava_e2e::scene::{Answer, Scene};
use zastava_e2e::wait::{Seen, until};

use super::{OWN, both_ends, pods_start, signed};
use crate::ground::{Told, alone};

/// How long pods may still be refused once the glass is broken.
const SOON: Duration = Duration::from_secs(30);
/// What keeps the webhook dead: an admission policy that lets none of its pods be made.
const DEAD: &str = "zastava-e2e-dead-webhook";
/// What the API server says of a webhook that it can't ask.
const UNREACHABLE: &str = "failed calling webhook";

#[tokio::test]
async fn a_suspended_policy_lets_pods_start_though_the_webhook_is_dead() {
    alone("suspend", async |scene| {
        let signed = signed(scene)?;
        dead(scene, &signed, async || {
            let mut spec = both_ends(scene)?;
            spec["suspend"] = json!(true);
            scene.apply_policy(spec).await?;
            pods_start(scene, &signed, SOON).await
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn admission_switched_off_lets_pods_start_though_the_webhook_is_dead() {
    alone("admission-off", async |scene| {
        let signed = signed(scene)?;
        let values = release::given(scene.stage())?;
        let told = dead(scene, &signed, async || {
            let mut off = values.clone();
            off["admission"]["enabled"] = json!(false);
            release::install_with(scene.stage(), &off).await?;
            pods_start(scene, &signed, SOON).await
        })
        .await;
        release::install_with(scene.stage(), &values).await.context("admission comes again")?;
        told
    })
    .await;
}

#[tokio::test]
async fn the_guard_holds_though_the_webhook_is_dead() {
    alone("guard", async |scene| {
        let signed = signed(scene)?;
        // From before the policy: what runs already may go on changing anything but its images.
        scene.create(scene.pod("old", &signed)).await?.taken()?;
        let admission = json!({"failurePolicy": "Ignore", "digests": "Require"});
        scene.policy(json!({"mode": "Enforce", "admission": admission})).await?;
        let told = async {
            no_webhook(scene.client()).await?;
            let message = until("a tag is refused", SOON, async || {
                Ok(match scene.create(scene.pod("tag", &signed)).await? {
                    Answer::Refused(message) => Seen::There(message),
                    Answer::Taken(_) => {
                        scene.forget("tag").await?;
                        Seen::NotYet("let in".into())
                    }
                })
            })
            .await?;
            for part in ["container main", &signed, scene.namespace(), "digests: Require", "next: write the reference"]
            {
                ensure!(message.contains(part), "the refusal does not say {part}: {message}");
            }
            let pinned = format!("{signed}@sha256:{}", "a".repeat(64));
            scene.create(scene.pod("pinned", &pinned)).await?.taken().context("with a digest")?;
            let pods: Api<Pod> = Api::namespaced(scene.client().clone(), scene.namespace());
            let label = json!({"metadata": {"labels": {"changed": "yes"}}});
            pods.patch("old", &PatchParams::default(), &Patch::Merge(&label)).await.context("no image is new")?;
            // Suspended, it lets go at once.
            let mut off = json!({"mode": "Enforce", "suspend": true});
            off["admission"] = json!({"failurePolicy": "Ignore", "digests": "Require"});
            scene.apply_policy(off).await?;
            pods_start(scene, &signed, SOON).await
        };
        let told = told.await;
        revive(scene.client()).await.context("the webhook may live again")?;
        told
    })
    .await;
}

/// Keeps every pod of the webhook from being made, and waits until there is none.
async fn no_webhook(client: &Client) -> Told {
    forbid(client).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let labels = ListParams::default().labels(&format!("{OWN},app.kubernetes.io/component=webhook"));
    until("there is no webhook", Duration::from_mins(1), async || {
        pods.delete_collection(&DeleteParams::default().grace_period(0), &labels).await?;
        let left = pods.list(&labels).await?.items.len();
        Ok(if left == 0 { Seen::There(()) } else { Seen::NotYet(format!("{left} pods")) })
    })
    .await?;
    Ok(())
}

/// A policy in force and its webhook dead, so that even a signed image is refused; then `act`.
async fn dead(scene: &Scene<'_>, signed: &str, act: impl AsyncFnOnce() -> Told) -> Told {
    scene.policy(both_ends(scene)?).await?;
    pods_start(scene, signed, SOON).await?;
    let told = async {
        kill(scene, signed).await?;
        act().await
    };
    let told = told.await;
    revive(scene.client()).await.context("the webhook may live again")?;
    told
}

/// Lets no pod of the webhook be made.
async fn forbid(client: &Client) -> Told {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let params = PatchParams::apply("zastava-e2e");
    let is_webhook = "object.metadata.?labels[?'app.kubernetes.io/component'].orValue('') == 'webhook'";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": DEAD},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
            ]},
            "matchConditions": [{"name": "webhook", "expression": format!("request.namespace == '{NAMESPACE}' && {is_webhook}")}],
            "validations": [{"expression": "false", "message": "a scenario keeps the webhook dead"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": DEAD},
        "spec": {"policyName": DEAD, "validationActions": ["Deny"]},
    });
    policies.patch(DEAD, &params, &Patch::Apply(&policy)).await?;
    bindings.patch(DEAD, &params, &Patch::Apply(&binding)).await?;
    Ok(())
}

async fn kill(scene: &Scene<'_>, signed: &str) -> Told {
    forbid(scene.client()).await?;
    let pods: Api<Pod> = Api::namespaced(scene.client().clone(), NAMESPACE);
    let labels = ListParams::default().labels(&format!("{OWN},app.kubernetes.io/component=webhook"));
    let message = until("a signed image is refused, for the webhook is dead", Duration::from_mins(1), async || {
        // Again and again: some may be made before every API server knows the policy.
        pods.delete_collection(&DeleteParams::default().grace_period(0), &labels).await?;
        Ok(match scene.create(scene.pod("starts", signed)).await {
            Ok(Answer::Taken(_)) => {
                scene.forget("starts").await?;
                Seen::NotYet("taken".into())
            }
            // What was deleted without grace may answer a little longer.
            Ok(Answer::Refused(message)) if !message.contains(UNREACHABLE) => Seen::NotYet(message),
            Ok(Answer::Refused(message)) => Seen::There(message),
            // The API server's own failure to ask is an internal error.
            Err(error) if error.to_string().contains("webhook") => Seen::There(error.to_string()),
            Err(error) => Seen::NotYet(error.to_string()),
        })
    })
    .await?;
    ensure!(message.contains(UNREACHABLE), "refused for another reason: {message}");
    Ok(())
}

async fn revive(client: &Client) -> Told {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let none = DeleteParams::default();
    for outcome in [
        bindings.delete(DEAD, &none).await.map(drop),
        policies.delete(DEAD, &none).await.map(drop),
        // Its controller waits longer after each refusal; a new Deployment tries at once.
        deployments.delete("zastava-webhook", &none).await.map(drop),
    ] {
        match outcome {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => other?,
        }
    }
    Ok(())
}
