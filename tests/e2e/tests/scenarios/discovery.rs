//! Where cosign puts signatures and SBOMs, in a registry with the referrers API and in one without: all of them count.

use anyhow::{Context as _, ensure};
use serde_json::json;
use zastava_e2e::registry::Registry;
use zastava_e2e::signer::Form;
use zastava_e2e::workload::Workload;

use crate::ground::{Told, scenario};

const TEAM: &str = "team";
const STRANGER: &str = "stranger";

/// Which of cosign's places an image has something at, besides its referrers.
fn tags(registry: &Registry, image: &Workload<'_>) -> anyhow::Result<(bool, bool)> {
    let reference = image.reference();
    let tag = format!("{}:{}", reference.repository, reference.digest.replace(':', "-"));
    Ok((registry.digest(&tag)?.is_some(), registry.digest(&format!("{tag}.sig"))?.is_some()))
}

#[tokio::test]
async fn a_signature_is_found_in_every_registry_and_form() {
    scenario("discovery", async |scene| {
        let stage = scene.stage();
        let Some(bare) = stage.bare_registry() else {
            eprintln!("skipped: this cluster has no second registry");
            return Ok(());
        };
        let mut admission = scene.signed_by(TEAM)?;
        admission["sbom"] = json!({"required": true});
        scene.policy(json!({"mode": "Enforce", "admission": admission})).await?;
        // What cosign leaves as tags: with the referrers API a bundle leaves none, without it the fallback tag.
        for (registry, kind, form, expected) in [
            (stage.registry(), "api", Form::Bundle, (false, false)),
            (stage.registry(), "api", Form::Legacy, (false, true)),
            (bare, "bare", Form::Bundle, (true, false)),
            (bare, "bare", Form::Legacy, (false, true)),
        ] {
            let name = format!("{kind}-{form:?}").to_lowercase();
            let push =
                |what: &str| Workload::push_to(stage, registry, &format!("{}-{name}-{what}", scene.namespace()), what);
            let told = async {
                let signed = push("signed")?.signed_by(TEAM, form)?.described_by(TEAM, form)?;
                ensure!(tags(registry, &signed)? == expected, "cosign wrote tags {:?}", tags(registry, &signed)?);
                let pod = scene.run(&format!("{name}-signed"), &signed.reference().tagged()).await?;
                let runs = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
                ensure!(runs.as_deref() == Some(signed.reference().pinned().as_str()), "runs {runs:?}");

                let strange = push("strange")?.signed_by(STRANGER, form)?.described_by(STRANGER, form)?;
                let pod = scene.pod(&format!("{name}-strange"), &strange.reference().tagged());
                let message = scene.create(pod).await?.refused()?;
                ensure!(message.contains("no signature that counts"), "{message}");

                let unsigned = push("unsigned")?;
                let pod = scene.pod(&format!("{name}-unsigned"), &unsigned.reference().tagged());
                let message = scene.create(pod).await?.refused()?;
                ensure!(message.contains("no signature") && !message.contains("that counts"), "{message}");
                Told::Ok(())
            };
            told.await.with_context(|| format!("{kind}, {form:?}"))?;
        }
        Ok(())
    })
    .await;
}
