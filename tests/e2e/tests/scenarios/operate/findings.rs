//! Who may write findings: the operator, and people who acknowledge.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use zastava_crds::finding::{FindingType, RuntimeFinding};
use zastava_e2e::command::{Finished, finish};
use zastava_e2e::scene::Scene;

use super::{TEAM, unsigned};
use crate::ground::{Told, scenario};

#[tokio::test]
async fn a_finding_is_the_operators_word_and_people_acknowledge_it() {
    scenario("findings", async |scene| {
        let unsigned = unsigned(scene)?;
        scene.policy(json!({"mode": "Enforce", "admission": scene.signed_by(TEAM)?})).await?;
        scene.create(scene.pod("app", &unsigned)).await?.refused()?;
        let finding = scene
            .finding("the refused image", Duration::from_secs(30), |finding| {
                finding.spec.type_ == FindingType::Admission
            })
            .await?;
        let name = finding.metadata.name.clone().context("a finding without a name")?;

        a_strangers_word(scene, &finding, &name).await?;
        for (person, role) in [("ann", "zastava-findings-acknowledge"), ("bob", "view")] {
            bind(scene, person, role).await?;
        }

        let acknowledgement = json!({"spec": {"acknowledgement": {"by": "ann", "reason": "a test"}}});
        let refused = patch(scene, "bob", &name, &acknowledgement)?;
        ensure!(
            !refused.success && refused.stderr.contains("forbidden"),
            "bob may only view: {}{}",
            refused.stdout,
            refused.stderr
        );
        patch(scene, "ann", &name, &acknowledgement)?.stdout().context("ann may acknowledge")?;
        let refused = patch(scene, "ann", &name, &json!({"spec": {"subject": "/bin/true"}}))?;
        ensure!(!refused.success && refused.stderr.contains("acknowledgement"), "{}{}", refused.stdout, refused.stderr);

        // The operator goes on counting, and leaves the person's word alone.
        let before = finding.status.map_or(0, |status| status.count);
        scene.create(scene.pod("app", &unsigned)).await?.refused()?;
        scene
            .finding("counted on, still acknowledged", Duration::from_secs(30), |finding| {
                let count = finding.status.as_ref().map_or(0, |status| status.count);
                count == before + 1 && finding.spec.acknowledgement.as_ref().is_some_and(|word| word.by == "ann")
            })
            .await?;
        Ok(())
    })
    .await;
}

/// Whoever it is: here it is an administrator with every right, so that nothing but the admission policy says no.
async fn a_strangers_word(scene: &Scene<'_>, finding: &RuntimeFinding, name: &str) -> Told {
    let findings: Api<RuntimeFinding> = Api::namespaced(scene.client().clone(), scene.namespace());
    let mut invented = finding.clone();
    invented.metadata = kube::api::ObjectMeta { name: Some("drift-invented".into()), ..Default::default() };
    invented.status = None;
    let refused =
        findings.create(&PostParams::default(), &invented).await.err().context("a stranger made a finding")?;
    ensure!(refused.to_string().contains("made by Zastava's operator only"), "{refused}");

    let lie = json!({"status": {"count": 0}});
    let refused = findings.patch_status(name, &PatchParams::default(), &Patch::Merge(&lie)).await;
    let refused = refused.err().context("a stranger wrote a status")?;
    ensure!(refused.to_string().contains("written by Zastava's operator only"), "{refused}");

    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let refused = findings.patch(name, &PatchParams::default(), &Patch::Merge(&label)).await;
    let refused = refused.err().context("a stranger labelled a finding")?;
    ensure!(refused.to_string().contains("only spec.acknowledgement"), "{refused}");

    let finalizer = json!({"metadata": {"finalizers": ["example.com/stay"]}});
    let refused = findings.patch(name, &PatchParams::default(), &Patch::Merge(&finalizer)).await;
    let refused = refused.err().context("a stranger could hold up the namespace's deletion")?;
    ensure!(refused.to_string().contains("finalizers"), "{refused}");
    Ok(())
}

/// Gives a person a ClusterRole in the scene's namespace.
async fn bind(scene: &Scene<'_>, person: &str, role: &str) -> Told {
    let bindings: Api<RoleBinding> = Api::namespaced(scene.client().clone(), scene.namespace());
    let binding = serde_json::from_value(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": person},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person}],
    }))?;
    bindings.create(&PostParams::default(), &binding).await?;
    Ok(())
}

fn patch(scene: &Scene<'_>, person: &str, name: &str, patch: &Value) -> anyhow::Result<Finished> {
    let patch = patch.to_string();
    let line = [
        "--as",
        person,
        "--namespace",
        scene.namespace(),
        "patch",
        "runtimefinding",
        name,
        "--type=merge",
        "--patch",
        &patch,
    ];
    Ok(finish(scene.stage().tool("kubectl").args(line))?)
}
