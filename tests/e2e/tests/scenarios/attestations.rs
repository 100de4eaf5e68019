//! What an image's builder says of it: provenance with conditions, made by the real cosign.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use zastava_e2e::scene::Scene;
use zastava_e2e::signer::Form;
use zastava_e2e::workload::Workload;

use crate::ground::scenario;

const TEAM: &str = "team";
const STRANGER: &str = "stranger";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const BUILDER: &str = "https://builder.example.org/v2";
const BASE: &str = "7e6f5a4b3c2d1e0f7e6f5a4b3c2d1e0f7e6f5a4b3c2d1e0f7e6f5a4b3c2d1e0f";

/// What a builder says of an image that it built from a source.
fn provenance(builder: &str, source: &str) -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://builder.example.org/container@v1",
            "externalParameters": {"source": {"uri": source}},
            "resolvedDependencies": [
                {"uri": source, "digest": {"gitCommit": "c27d339ee6075c1f744c5d4b200f7901aad2c369"}},
                {"uri": "pkg:docker/registry.example.org/base/busybox@1.37", "digest": {"sha256": BASE}},
            ],
        },
        "runDetails": {"builder": {"id": builder}, "metadata": {"startedOn": "2026-11-01T10:00:00Z"}},
    })
}

/// An image that the team signed, and `signer` attested.
fn built<'a>(
    scene: &Scene<'a>,
    name: &str,
    signer: &str,
    predicate: &Value,
    form: Form,
) -> anyhow::Result<Workload<'a>> {
    let image = Workload::push(scene.stage(), &format!("{}-{name}", scene.namespace()), "1", name)?;
    Ok(image.signed_by(TEAM, form)?.attested_by(signer, "slsaprovenance1", predicate, form)?)
}

#[tokio::test]
async fn only_what_a_known_builder_made_of_a_known_source_is_admitted() {
    scenario("provenance", async |scene| {
        let ours = "git+https://git.example.org/team/app";
        let good = provenance(BUILDER, ours);
        let admitted = [
            ("bundle", built(scene, "bundle", TEAM, &good, Form::Bundle)?),
            ("legacy", built(scene, "legacy", TEAM, &good, Form::Legacy)?),
        ];
        let elsewhere = provenance("https://elsewhere.example.org", ours);
        let refused = [
            ("builder", built(scene, "builder", TEAM, &elsewhere, Form::Bundle)?, "is false (predicate.runDetails"),
            (
                "source",
                built(scene, "source", TEAM, &provenance(BUILDER, "git+https://evil.example.org/app"), Form::Bundle)?,
                "is false (predicate.buildDefinition",
            ),
            ("stranger", built(scene, "stranger", STRANGER, &good, Form::Bundle)?, "made by another key"),
            ("none", Workload::push(scene.stage(), &format!("{}-none", scene.namespace()), "1", "none")?
                .signed_by(TEAM, Form::Bundle)?, "no attestation of this type"),
        ];
        let mut admission = scene.signed_by(TEAM)?;
        admission["attestations"] = json!([{"predicateType": PROVENANCE, "conditions": [
            format!("predicate.runDetails.builder.id == '{BUILDER}'"),
            "predicate.buildDefinition.resolvedDependencies.exists(d, d.uri.startsWith('git+https://git.example.org/team/'))",
        ]}]);
        admission["baseImages"] = json!(["registry.example.org/base/*"]);
        scene.policy(json!({"mode": "Enforce", "admission": admission})).await?;
        for (name, image) in admitted {
            scene.run(name, &image.reference().tagged()).await.with_context(|| format!("provenance as {name}"))?;
        }
        for (name, image, why) in refused {
            let message = scene.create(scene.pod(name, &image.reference().tagged())).await?.refused()?;
            ensure!(message.contains(why), "{name}: the refusal does not say {why}: {message}");
            ensure!(message.contains("attestations[https://slsa.dev/provenance/v1]"), "{name}: {message}");
        }
        Ok(())
    })
    .await;
}
