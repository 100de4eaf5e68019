//! Whether what runs still satisfies its policy: a key goes, an exception comes and goes, the policy goes.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use zastava_crds::finding::{FindingType, ResolutionReason, RuntimeFinding};
use zastava_e2e::scene::Scene;
use zastava_e2e::signer::Form;
use zastava_e2e::wait::{Seen, until};
use zastava_e2e::workload::Workload;

use crate::ground::scenario;

/// The key pair that has signed, and the one that policies are switched to.
const TEAM: &str = "team";
const NEXT: &str = "next";
/// Changes are looked at at once; what is left is a registry's answer and a few writes.
const SOON: Duration = Duration::from_secs(45);

fn policy(admission: &Value, exceptions: &Value) -> Value {
    json!({
        "mode": "Enforce", "admission": admission, "exceptions": exceptions,
        "runtime": {"drift": {"action": "Off"}, "posture": {"interval": "1h"}},
    })
}

/// Waits until the finding about the pod's image is open, or resolved for this reason.
async fn posture(scene: &Scene<'_>, resolved: Option<ResolutionReason>) -> anyhow::Result<RuntimeFinding> {
    let what = resolved.map_or_else(|| "of posture, open".to_owned(), |reason| format!("of posture, {reason}"));
    let stands = |finding: &RuntimeFinding| {
        let status = finding.status.clone().unwrap_or_default();
        finding.spec.type_ == FindingType::Posture
            && finding.spec.workload.name == "app"
            && status.count > 0
            && status.resolved.map(|resolved| resolved.reason) == resolved
    };
    Ok(scene.finding(&what, SOON, stands).await?)
}

/// Waits until the policy says this of what runs.
async fn says(scene: &Scene<'_>, wanted: &str) -> anyhow::Result<()> {
    let told = "jsonpath={.status.matched.violating} {.status.conditions[?(@.type=='PostureSatisfied')].message}";
    let look = async || {
        let said = scene.stage().kubectl(&["get", "zp", scene.namespace(), "-o", told])?;
        Ok(if said.trim() == wanted { Seen::There(()) } else { Seen::NotYet(said) })
    };
    // Counters are written at most once in thirty seconds.
    Ok(until(&format!("the policy says {wanted}"), Duration::from_secs(75), look).await?)
}

#[tokio::test]
async fn what_runs_is_held_against_the_policy_as_it_is_now() {
    scenario("posture", async |scene| {
        let image = Workload::push(scene.stage(), &format!("{}-app", scene.namespace()), "1", "posture")?
            .signed_by(TEAM, Form::Bundle)?;
        let (team, next) = (scene.signed_by(TEAM)?, scene.signed_by(NEXT)?);
        scene.policy(policy(&team, &json!([]))).await?;
        scene.run("app", &image.reference().tagged()).await?;
        says(scene, "0 of 1 running images 1 satisfy").await?;
        ensure!(scene.findings().await?.iter().all(|finding| finding.spec.type_ != FindingType::Posture));

        // The key is rotated, and nobody has signed the image again.
        scene.policy(policy(&next, &json!([]))).await?;
        let found = posture(scene, None).await?;
        let status = found.status.clone().unwrap_or_default();
        ensure!(found.spec.subject == "signatures[team]" && found.spec.container == "main", "{found:?}");
        ensure!(status.digests.iter().any(|one| one.digest.as_str() == image.reference().digest), "{status:?}");
        ensure!(status.policies == [scene.namespace()] && status.pods == ["app"], "{status:?}");
        let shown = scene.stage().kubectl(&["get", "rf", "--namespace", scene.namespace()])?;
        let line = shown.lines().find(|line| line.contains("Posture")).unwrap_or_default();
        ensure!(line.contains("High") && line.contains("signatures[team]"), "{shown}");
        says(scene, "1 of 1 running images 0 satisfy, 1 in violation").await?;

        let exception = json!([{
            "name": "known", "reason": "rotated, to be signed again", "expires": "2100-01-01T00:00:00Z",
            "match": {"images": [image.reference().digest]},
        }]);
        scene.policy(policy(&next, &exception)).await?;
        posture(scene, Some(ResolutionReason::Excepted)).await?;
        says(scene, "0 of 1 running images 0 satisfy, 1 excepted").await?;

        scene.policy(policy(&next, &json!([]))).await?;
        let again = posture(scene, None).await?;
        ensure!(again.metadata.uid == found.metadata.uid, "it is another finding");
        ensure!(again.status.as_ref().is_some_and(|status| status.count == 2), "{again:?}");

        scene.remove_policy().await?;
        posture(scene, Some(ResolutionReason::NotAsked)).await?;
        Ok(())
    })
    .await;
}
