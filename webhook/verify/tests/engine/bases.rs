//! Known base images: told by a signed provenance that names nothing unknown, or by the layers of one that is pinned.

use std::sync::Arc;

use axum::{http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    answer::UnknownCause,
    requirement::{Inline, PolicyRequirements, RequirementError},
    verdict::RefusalReason,
};

use super::{
    bench::{Bench, policy, release, verifier},
    double::Double,
    signer::{BUNDLE, Signer},
};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const OLD_PROVENANCE: &str = "https://slsa.dev/provenance/v0.2";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

fn asking(signer: &Signer, base: &[String]) -> Arc<PolicyRequirements> {
    policy(json!({"signatures": release(&[signer], 1), "baseImages": base}))
}

/// An image of these layers, and what its manifest says besides.
fn layered(double: &Double, name: &str, layers: &[&str], annotations: &Value) -> Sha256Digest {
    let mut config = double.blob(json!({"architecture": "amd64", "os": "linux", "name": name}).to_string().as_bytes());
    config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let mut layer = double.blob(layer.as_bytes());
            layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
            layer
        })
        .collect();
    double.manifest(
        Some(name),
        &json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers, "annotations": annotations}),
    )
}

/// A signed image of these layers.
fn app(bench: &Bench, signer: &Signer, name: &str, layers: &[&str]) -> Sha256Digest {
    let image = layered(&bench.double, name, layers, &json!({}));
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    image
}

fn pinned(double: &Double, base: &Sha256Digest) -> String {
    format!("{}/base/os@{base}", double.host)
}

fn built_from(materials: &[(&str, &str)]) -> Value {
    let materials: Vec<_> = materials.iter().map(|(uri, hex)| json!({"uri": uri, "digest": {"sha256": hex}})).collect();
    json!({"buildDefinition": {"resolvedDependencies": materials}, "runDetails": {}})
}

#[tokio::test]
async fn an_image_that_begins_with_all_layers_of_a_pinned_base_image_is_built_on_it() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let base = layered(&bench.double, "base", &["a", "b"], &json!({}));
    let other = layered(&bench.double, "other", &["x"], &json!({}));
    let known = asking(&signer, &[pinned(&bench.double, &other), pinned(&bench.double, &base)]);
    let on = app(&bench, &signer, "on", &["a", "b", "c"]);
    let proof = bench.proven(&on, &known).await;
    assert_eq!(proof.evidence()[1].requirement, "baseImages");
    assert!(proof.evidence()[1].signed_by[0].ends_with(&format!("/base/os@{base}")), "{proof:?}");
    bench.proven(&app(&bench, &signer, "itself", &["a", "b"]), &known).await;
    for (name, layers) in [
        ("less", &["a"][..]),
        ("later", &["c", "a", "b"]),
        ("between", &["a", "c", "b"]),
        ("reversed", &["b", "a"]),
        ("none", &[]),
    ] {
        let refusal = bench.refused(&app(&bench, &signer, name, layers), &known).await;
        assert_eq!(refusal.reason, RefusalReason::UnknownBaseImage, "{name}: {refusal:?}");
        assert_eq!(refusal.requirement, "baseImages");
    }
}

#[tokio::test]
async fn a_base_image_is_asked_of_its_registry_once() {
    let (mut bench, signer, elsewhere) = (Bench::new().await, Signer::new(), Double::start().await);
    bench.verifier = verifier(&[&bench.double.host, &elsewhere.host]);
    let base = layered(&elsewhere, "base", &["a"], &json!({}));
    let index = elsewhere.index("index", &[("linux/amd64", &base), ("unknown/unknown", &Sha256Digest::of(b"none"))]);
    let known = [pinned(&elsewhere, &index)];
    for n in 0..3 {
        let image = app(&bench, &signer, &format!("app{n}"), &["a", &n.to_string()]);
        bench.proven(&image, &asking(&signer, &known)).await;
    }
    assert_eq!(elsewhere.asked(), [format!("manifests/{index}"), format!("manifests/{base}")]);
}

#[tokio::test]
async fn what_a_manifest_says_of_its_base_is_a_hint_for_the_order_and_no_proof() {
    let (mut bench, signer, elsewhere) = (Bench::new().await, Signer::new(), Double::start().await);
    bench.verifier = verifier(&[&bench.double.host, &elsewhere.host]);
    let (base, other) =
        (layered(&elsewhere, "base", &["a"], &json!({})), layered(&elsewhere, "other", &["x"], &json!({})));
    let known = asking(&signer, &[pinned(&elsewhere, &other), pinned(&elsewhere, &base)]);
    let says = json!({"org.opencontainers.image.base.digest": base, "org.opencontainers.image.base.name": "base"});
    let liar = layered(&bench.double, "liar", &["evil"], &says);
    let honest = layered(&bench.double, "honest", &["a", "c"], &says);
    for image in [&liar, &honest] {
        bench.double.attach(image, BUNDLE, &signer.bundle(image));
    }
    bench.proven(&honest, &known).await;
    assert_eq!(elsewhere.asked(), [format!("manifests/{base}")], "the hinted one is looked at first");
    assert_eq!(bench.refused(&liar, &known).await.reason, RefusalReason::UnknownBaseImage);
}

#[tokio::test]
async fn a_base_image_that_can_not_be_asked_is_unknown_and_no_other_requirement_is() {
    let (mut bench, signer, elsewhere) = (Bench::new().await, Signer::new(), Double::start().await);
    bench.verifier = verifier(&[&bench.double.host, &elsewhere.host]);
    let base = layered(&elsewhere, "base", &["a"], &json!({}));
    let known = asking(&signer, &[pinned(&elsewhere, &base)]);
    let image = app(&bench, &signer, "app", &["a", "b"]);
    elsewhere.hook(|_, _| Some(StatusCode::INTERNAL_SERVER_ERROR.into_response()));
    assert_eq!(bench.unknown(&image, &known).await.cause, UnknownCause::RegistryError);
    let unsigned = layered(&bench.double, "unsigned", &["a"], &json!({}));
    assert_eq!(bench.refused(&unsigned, &known).await.reason, RefusalReason::NoSignature, "that is definite");
    let missing = asking(&signer, &[pinned(&elsewhere, &Sha256Digest::of(b"missing"))]);
    elsewhere.hook(|_, _| None);
    assert_eq!(bench.unknown(&image, &missing).await.cause, UnknownCause::ImageNotFound);
    // Another content under its digest is no base image.
    let (body, digest) = (r#"{"schemaVersion":2,"layers":[],"config":{}}"#, base.to_string());
    elsewhere.hook(move |asked, _| {
        (asked == format!("manifests/{digest}")).then(|| ([("content-type", IMAGE)], body).into_response())
    });
    bench.verifier = verifier(&[&bench.double.host, &elsewhere.host]);
    assert_eq!(bench.unknown(&image, &known).await.cause, UnknownCause::Integrity);
}

#[tokio::test]
async fn a_pinned_base_image_without_layers_is_under_no_image() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let empty = layered(&bench.double, "empty", &[], &json!({}));
    let image = app(&bench, &signer, "app", &["a"]);
    let refusal = bench.refused(&image, &asking(&signer, &[pinned(&bench.double, &empty)])).await;
    assert_eq!(refusal.reason, RefusalReason::UnknownBaseImage);
}

#[tokio::test]
async fn each_image_of_an_index_is_built_on_a_known_one() {
    let signer = Signer::new();
    let bench = Bench::new().await.on(&["linux/amd64", "linux/arm64"]);
    let base = layered(&bench.double, "base", &["a"], &json!({}));
    let known = asking(&signer, &[pinned(&bench.double, &base)]);
    let good = layered(&bench.double, "good", &["a", "b"], &json!({}));
    let (also, bad) =
        (layered(&bench.double, "also", &["a", "c"], &json!({})), layered(&bench.double, "bad", &["d"], &json!({})));
    let index = |arm: &Sha256Digest| {
        let index = bench.double.index("index", &[("linux/amd64", &good), ("linux/arm64", arm)]);
        bench.double.attach(&index, BUNDLE, &signer.bundle(&index));
        index
    };
    bench.proven(&index(&also), &known).await;
    assert_eq!(bench.refused(&index(&bad), &known).await.reason, RefusalReason::UnknownBaseImage);
}

#[tokio::test]
async fn a_signed_provenance_tells_all_images_a_build_used_in_both_versions() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let (base, tool) = ("ab".repeat(32), "cd".repeat(32));
    let known = [format!("sha256:{base}"), "registry.example/tools/**".to_owned()];
    let attested = |name: &str, predicate_type: &str, predicate: &Value| {
        let image = app(&bench, &signer, name, &[name]);
        bench.double.attach(&image, BUNDLE, &signer.attestation(&image, predicate_type, predicate));
        image
    };
    let docker = "pkg:docker/debian@12?platform=linux%2Famd64";
    let source = ("git+https://git.example.org/team/app", "00");
    let good = built_from(&[source, (docker, &base), ("pkg:docker/registry.example/tools/go@1", &tool)]);
    let proof = bench.proven(&attested("v1", PROVENANCE, &good), &asking(&signer, &known)).await;
    assert!(proof.evidence()[1].signed_by[0].contains("key "), "{proof:?}");
    let materials = good["buildDefinition"]["resolvedDependencies"].clone();
    let old = json!({"materials": materials});
    bench.proven(&attested("v0.2", OLD_PROVENANCE, &old), &asking(&signer, &known)).await;
    for (name, predicate_type, predicate, why) in [
        ("unknown", PROVENANCE, built_from(&[(docker, &base), ("pkg:docker/evil@1", &tool)]), "not among the policy's"),
        ("renamed", PROVENANCE, built_from(&[("pkg:docker/registry.example/toolsmith/go@1", &tool)]), "not among"),
        ("none", PROVENANCE, built_from(&[source]), "names no image"),
        ("empty", PROVENANCE, json!({}), "names no image"),
        ("version", PROVENANCE, old.clone(), "names no image"),
        ("later", OLD_PROVENANCE, good.clone(), "names no image"),
        (
            "undigested",
            PROVENANCE,
            json!({"buildDefinition": {"resolvedDependencies": [{"uri": docker}]}}),
            "no digest",
        ),
        ("malformed", PROVENANCE, built_from(&[(docker, "xyz")]), "a digest that is none"),
        (
            "nameless",
            PROVENANCE,
            json!({"buildDefinition": {"resolvedDependencies": [
                {"uri": docker, "digest": {"sha256": base}}, {"digest": {"sha256": tool}}]}}),
            "without a uri",
        ),
        ("text", PROVENANCE, json!("text"), "can't be read"),
    ] {
        let refusal = bench.refused(&attested(name, predicate_type, &predicate), &asking(&signer, &known)).await;
        assert_eq!(refusal.reason, RefusalReason::UnknownBaseImage, "{name}: {refusal:?}");
        assert!(refusal.found.contains(why), "{name}: {refusal:?}");
    }
}

#[tokio::test]
async fn no_layers_are_asked_for_where_a_provenance_does() {
    let (mut bench, signer, elsewhere) = (Bench::new().await, Signer::new(), Double::start().await);
    bench.verifier = verifier(&[&bench.double.host, &elsewhere.host]);
    let base = layered(&elsewhere, "base", &["a"], &json!({}));
    let known = asking(&signer, &[pinned(&elsewhere, &base)]);
    let image = app(&bench, &signer, "app", &["squashed"]);
    let built = built_from(&[("pkg:docker/debian@12", base.hex())]);
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, PROVENANCE, &built));
    bench.proven(&image, &known).await;
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_provenance_of_strangers_or_of_another_image_tells_nothing() {
    let (bench, signer, stranger) = (Bench::new().await, Signer::new(), Signer::new());
    let base = "ab".repeat(32);
    let good = built_from(&[("pkg:docker/debian@12", &base)]);
    let known = asking(&signer, &[format!("sha256:{base}")]);
    let image = app(&bench, &signer, "app", &["a"]);
    bench.double.attach(&image, BUNDLE, &stranger.attestation(&image, PROVENANCE, &good));
    bench.double.attach(&image, BUNDLE, &signer.attestation(&Sha256Digest::of(b"other"), PROVENANCE, &good));
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, "https://example.org/provenance", &good));
    let refusal = bench.refused(&image, &known).await;
    assert_eq!(refusal.reason, RefusalReason::UnknownBaseImage);
    assert!(refusal.found.contains("1 made by another key, 1 made for another image"), "{refusal:?}");
}

#[test]
fn an_entry_that_can_not_be_shown_names_its_field_and_the_fix() {
    let pem = Signer::new().pem();
    let entry = |name: &str| json!({"name": name, "authorities": [{"key": {"pem": pem}}]});
    let build = |spec: Value| {
        let spec = serde_json::from_value(spec).unwrap();
        PolicyRequirements::from_spec("p", "u", 1, &spec, &Inline).map(|built| built.is_some())
    };
    for bad in
        ["debian", "docker.io/library/debian:12", "docker.io/library/debian@12", "sha256:ab", "a/[", "a@sha256:ab"]
    {
        let error = build(json!({"signatures": [entry("a")], "baseImages": ["**", bad]})).unwrap_err();
        assert!(matches!(error, RequirementError::BaseImage { .. }), "{bad}: {error}");
        assert!(error.to_string().starts_with(&format!("baseImages[1] \"{bad}\"")), "{error}");
        assert!(error.to_string().ends_with("a glob on host/repository"), "{error}");
    }
    let two = [entry("a"), entry("b")];
    let error = build(json!({"signatures": two, "baseImages": ["docker.io/library/*"]})).unwrap_err();
    assert!(error.to_string().contains("it is not said who signs it: add an entry to attestations"), "{error}");
    let digest = Sha256Digest::of(b"base");
    let said = json!([{"predicateType": OLD_PROVENANCE, "signedBy": "b"}]);
    assert!(build(json!({"signatures": two, "attestations": said, "baseImages": ["docker.io/library/*"]})).unwrap());
    assert!(build(json!({"signatures": two, "baseImages": [format!("docker.io/library/debian@{digest}")]})).unwrap());
    assert!(build(json!({"baseImages": [format!("docker.io/library/debian@{digest}")]})).unwrap());
}
