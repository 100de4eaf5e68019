//! The end at admission.

use kube::ResourceExt as _;
use zastava_crds::{condition::reasons, policy::WebhookStatus};

use super::{Part, Scene};

pub(super) fn part(scene: &Scene<'_>) -> Part {
    if !scene.installation.webhook.enabled {
        return Part::down(
            reasons::ADMISSION_DISABLED,
            "admission.enabled is false in the installation's settings: no image is checked",
        );
    }
    if asks_the_backend(scene) && !scene.installation.backend.is_configured() {
        return Part::down(
            reasons::NOT_CONFIGURED,
            "spec.admission.verdict asks for the backend's word, and no backend is configured: set backend.url in the \
             chart's values; until then every image is one that the backend can't be asked about",
        );
    }
    let Some(deployed) = &scene.report.deployed else { return Part::starting("the webhook is not rolled out") };
    let desired = desired(scene);
    let generation = scene.policy.metadata.generation.unwrap_or_default();
    match deployed.gates.get(&scene.policy.uid().unwrap_or_default()) {
        None => Part::starting("no replica of the webhook serves yet, so the API server does not ask it"),
        Some(gate) if *gate != generation => Part::starting("the API server still asks by an older spec"),
        Some(_) if deployed.serving == 0 => {
            let message = format!("none of {desired} replicas of the webhook serves");
            let down = Part::down(reasons::WEBHOOK_UNAVAILABLE, message.clone());
            Part { degraded: Some((reasons::WEBHOOK_UNAVAILABLE, message)), ..down }
        }
        Some(_) => {
            let message = format!("{} of {desired} replicas of the webhook serve", deployed.serving.min(desired));
            let mut part = Part::up(message.clone());
            match (deployed.serving < desired, scene.webhook_overdue) {
                (false, _) => {}
                (true, false) => part.progressing = Some(message),
                (true, true) => part.degraded = Some((reasons::WEBHOOK_UNAVAILABLE, message)),
            }
            part
        }
    }
}

/// Absent with the break-glass: there is no webhook.
pub(super) fn counters(scene: &Scene<'_>) -> Option<WebhookStatus> {
    let desired = desired(scene);
    // During an update more replicas serve than are asked for.
    let ready = scene.report.deployed.as_ref().map_or(0, |deployed| deployed.serving).min(desired);
    scene.installation.webhook.enabled.then(|| WebhookStatus { summary: format!("{ready}/{desired}"), desired, ready })
}

fn asks_the_backend(scene: &Scene<'_>) -> bool {
    scene.policy.spec.admission.as_ref().is_some_and(|admission| admission.verdict.is_some())
}

fn desired(scene: &Scene<'_>) -> u32 {
    u32::try_from(scene.installation.webhook.replicas).unwrap_or_default()
}
