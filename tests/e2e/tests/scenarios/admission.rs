//! What may start: unsigned, signed, signed by a stranger, and the ways around.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use zastava_e2e::scene::{Answer, Scene, pod_spec};
use zastava_e2e::signer::Form;
use zastava_e2e::wait::{Seen, until};
use zastava_e2e::workload::Workload;

use crate::ground::{Told, alone, scenario};

/// The key pair that policies name, and one that they do not.
const TEAM: &str = "team";
const STRANGER: &str = "stranger";

/// Only images that the team signed.
async fn enforce(scene: &Scene<'_>) -> Told {
    Ok(scene.policy(json!({"mode": "Enforce", "admission": scene.signed_by(TEAM)?})).await?)
}

/// An image of this scenario's own, in a repository of its own.
fn image<'a>(scene: &Scene<'a>, name: &str, content: &str) -> anyhow::Result<Workload<'a>> {
    Ok(Workload::push(scene.stage(), &format!("{}-{name}", scene.namespace()), "1", content)?)
}

/// A refusal says which container, which image, and which policy.
fn explains(message: &str, scene: &Scene<'_>, reference: &str) -> Told {
    for part in [scene.namespace(), reference, "main", "next:"] {
        ensure!(message.contains(part), "the refusal does not say {part}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unsigned_image_is_refused() {
    scenario("unsigned", async |scene| {
        let unsigned = image(scene, "app", "unsigned")?.reference().tagged();
        enforce(scene).await?;
        let message = scene.create(scene.pod("app", &unsigned)).await?.refused()?;
        explains(&message, scene, &unsigned)?;
        ensure!(message.contains("no signature"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_signed_image_is_admitted_and_pinned() {
    scenario("signed", async |scene| {
        let bundle = image(scene, "bundle", "signed")?.signed_by(TEAM, Form::Bundle)?;
        let legacy = image(scene, "legacy", "signed")?.signed_by(TEAM, Form::Legacy)?;
        enforce(scene).await?;
        for (name, signed) in [("bundle", bundle.reference()), ("legacy", legacy.reference())] {
            let pod = scene.run(name, &signed.tagged()).await.with_context(|| format!("signature as {name}"))?;
            let runs = pod.spec.and_then(|spec| spec.containers.into_iter().next()).and_then(|main| main.image);
            ensure!(
                runs.as_deref() == Some(signed.pinned().as_str()),
                "{name}: runs {runs:?}, not {}",
                signed.pinned()
            );
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_strangers_signature_is_refused() {
    scenario("stranger", async |scene| {
        let strange =
            image(scene, "app", "strange")?.signed_by(STRANGER, Form::Bundle)?.signed_by(STRANGER, Form::Legacy)?;
        enforce(scene).await?;
        let reference = strange.reference().tagged();
        let message = scene.create(scene.pod("app", &reference)).await?.refused()?;
        explains(&message, scene, &reference)?;
        ensure!(message.contains("no signature that counts"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_tag_that_moved_is_judged_by_what_it_names_now() {
    scenario("moved", async |scene| {
        let first = image(scene, "app", "first")?.signed_by(TEAM, Form::Bundle)?;
        enforce(scene).await?;
        scene.run("before", &first.reference().tagged()).await?;

        let second = image(scene, "app", "second")?;
        ensure!(first.reference().digest != second.reference().digest, "the tag did not move");
        let message = scene.create(scene.pod("after", &second.reference().tagged())).await?.refused()?;
        explains(&message, scene, &second.reference().tagged())?;
        ensure!(message.contains("no signature"), "{message}");

        let pods: Api<Pod> = Api::namespaced(scene.client().clone(), scene.namespace());
        let before = pods.get("before").await?.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
        ensure!(before.as_deref() == Some(first.reference().pinned().as_str()), "what ran before now says {before:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_ephemeral_container_is_judged_as_well() {
    scenario("ephemeral", async |scene| {
        let signed = image(scene, "app", "signed")?.signed_by(TEAM, Form::Bundle)?;
        let unsigned = image(scene, "debug", "unsigned")?;
        enforce(scene).await?;
        scene.run("app", &signed.reference().tagged()).await?;

        let pods: Api<Pod> = Api::namespaced(scene.client().clone(), scene.namespace());
        let attach = async |image: &str| {
            let patch = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": image}]}});
            pods.patch_ephemeral_containers("app", &PatchParams::default(), &Patch::Strategic(patch)).await
        };
        let refused =
            attach(&unsigned.reference().pinned()).await.err().context("an unsigned debug container was let in")?;
        let refused = refused.to_string();
        ensure!(refused.contains("ephemeral container debug") && refused.contains("no signature"), "{refused}");
        attach(&signed.reference().pinned()).await.context("a signed debug container was refused")?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_deployment_is_refused_when_it_is_applied() {
    scenario("deployment", async |scene| {
        let unsigned = image(scene, "app", "unsigned")?.reference().tagged();
        let signed = image(scene, "good", "signed")?.signed_by(TEAM, Form::Bundle)?.reference().tagged();
        enforce(scene).await?;
        let deployment = |image: &str| {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"},
                "spec": {
                    "selector": {"matchLabels": {"app": "app"}},
                    "template": {"metadata": {"labels": {"app": "app"}}, "spec": pod_spec(image)},
                },
            })
        };
        let message = scene.apply(deployment(&unsigned)).await?.refused()?;
        explains(&message, scene, &unsigned)?;
        ensure!(message.contains("no signature"), "{message}");
        // A template keeps what was written: the digest is the pod's.
        let stored = scene.apply(deployment(&signed)).await?.taken()?;
        let image = &stored.data["spec"]["template"]["spec"]["containers"][0]["image"];
        ensure!(*image == signed, "the template says {image}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_job_that_runs_already_completes_and_its_namespace_goes() {
    scenario("job", async |scene| {
        let unsigned = image(scene, "app", "unsigned")?.reference().tagged();
        let mut spec = pod_spec(&unsigned);
        spec["restartPolicy"] = json!("Never");
        spec["containers"][0]["command"] = json!(["/bin/sh", "-c", "until [ -e /tmp/done ]; do sleep 0.1; done"]);
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "app"},
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": "app"}}, "spec": spec}},
        });
        scene.create(job).await?.taken()?;
        let pods: Api<Pod> = Api::namespaced(scene.client().clone(), scene.namespace());
        let name = until("the Job has a pod", Duration::from_secs(30), async || {
            let name =
                pods.list(&kube::api::ListParams::default()).await?.items.into_iter().find_map(|pod| pod.metadata.name);
            Ok(name.map_or(Seen::NotYet("no pod".into()), Seen::There))
        })
        .await?;
        scene.running(&name).await?;

        enforce(scene).await?;
        scene.shell(&name, "touch /tmp/done")?.stdout()?;
        let jobs: Api<Job> = Api::namespaced(scene.client().clone(), scene.namespace());
        until("the Job is complete", Duration::from_mins(1), async || {
            let status = jobs.get("app").await?.status.unwrap_or_default();
            let complete =
                status.conditions.iter().flatten().any(|one| one.type_ == "Complete" && one.status == "True");
            Ok(if complete { Seen::There(()) } else { Seen::NotYet(serde_json::to_string(&status)?) })
        })
        .await?;
        // With the policy still in force.
        scene.delete_namespace().await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_registry_that_is_down_is_not_an_unsigned_image() {
    alone("registry", async |scene| {
        let Some(run) = scene.stage().run() else {
            eprintln!("skipped: the registry of this cluster is not ours to take away");
            return Ok(());
        };
        let signed = image(scene, "app", "signed")?.signed_by(TEAM, Form::Bundle)?.reference().tagged();
        enforce(scene).await?;
        run.registry_reachable(false)?;
        let answer = scene.create(scene.pod("app", &signed)).await;
        run.registry_reachable(true)?;
        let message = answer?.refused()?;
        ensure!(!message.contains("no signature"), "an unknown reads as unsigned: {message}");
        // It comes back by itself: what was unknown is asked again.
        until("the signed image starts", Duration::from_mins(1), async || {
            match scene.create(scene.pod("app", &signed)).await? {
                Answer::Taken(_) => Ok(Seen::There(())),
                Answer::Refused(message) => Ok(Seen::NotYet(message)),
            }
        })
        .await?;
        scene.running("app").await?;
        Ok(())
    })
    .await;
}
