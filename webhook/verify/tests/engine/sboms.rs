//! Bills of materials: signed by the named authority, about this image, in a form that can be read.

use std::sync::Arc;

use serde_json::{Value, json};
use zastava_crds::{digest::Sha256Digest, policy::SbomFormat};
use zastava_verify::{
    requirement::PolicyRequirements,
    sbom::{Judgement, SbomVerdict, VerifiedSbom},
    verdict::RefusalReason,
};

use super::{
    bench::{Bench, policy, release},
    signer::{BUNDLE, CYCLONEDX, SPDX, Signer, cyclonedx},
};

const FILES: &[(&str, &[u8])] = &[("/bin/busybox", b"busybox"), ("usr/bin/app", b"app")];

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn asking(signer: &Signer, sbom: &Value) -> Arc<PolicyRequirements> {
    policy(json!({"signatures": release(&[signer], 1), "sbom": sbom}))
}

async fn found(bench: &Bench, signer: &Signer, image: &Sha256Digest) -> Arc<VerifiedSbom> {
    match bench.sbom(image, &asking(signer, &json!({"required": true}))).await {
        SbomVerdict::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

async fn missing(bench: &Bench, signer: &Signer, image: &Sha256Digest) -> RefusalReason {
    match bench.sbom(image, &asking(signer, &json!({"required": true}))).await {
        SbomVerdict::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

fn spdx(version: &str) -> Value {
    let file = |id: &str, path: &str, content: &[u8]| {
        json!({"SPDXID": id, "fileName": path,
            "checksums": [{"algorithm": "SHA256", "checksumValue": Sha256Digest::of(content).hex()}]})
    };
    json!({"spdxVersion": version, "creationInfo": {"created": now()},
        "packages": [{"SPDXID": "SPDXRef-p", "name": "busybox", "versionInfo": "1.37"}],
        "files": [file("SPDXRef-f", "./bin/busybox", b"busybox")],
        "relationships": [{"spdxElementId": "SPDXRef-p", "relationshipType": "CONTAINS", "relatedSpdxElement": "SPDXRef-f"}]})
}

#[tokio::test]
async fn a_file_is_known_modified_or_unknown() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, CYCLONEDX, &cyclonedx("1.6", &now(), FILES)));
    let found = found(&bench, &signer, &image).await;
    let sbom = found.sbom();
    assert_eq!((sbom.format(), sbom.files()), (SbomFormat::CycloneDX, 2));
    assert_eq!(found.subjects()[0].digest, image);
    let component = Some("pkg:generic/busybox@1.37".to_owned());
    let known = |listed_at: Option<&str>| Judgement::Known {
        component: component.clone(),
        listed_at: listed_at.map(str::to_owned),
    };
    let hash = Sha256Digest::of;
    assert_eq!(sbom.judge("/bin/busybox", &hash(b"busybox")), known(None));
    assert_eq!(sbom.judge("bin/busybox", &hash(b"busybox")), known(None));
    assert_eq!(sbom.judge("/bin/sh", &hash(b"busybox")), known(Some("/bin/busybox")));
    let modified = Judgement::Modified { component: component.clone(), expected: hash(b"busybox") };
    assert_eq!(sbom.judge("/bin/busybox", &hash(b"malware")), modified);
    assert_eq!(sbom.judge("/bin/busybox", &hash(b"app")), modified, "a known program in the place of another");
    assert_eq!(sbom.judge("/tmp/x", &hash(b"malware")), Judgement::Unknown);
}

#[tokio::test]
async fn a_bill_of_materials_without_files_can_not_speak_about_any() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.attestation(&image, CYCLONEDX, &cyclonedx("1.5", &now(), &[])));
    let found = found(&bench, &signer, &image).await;
    assert_eq!(found.sbom().judge("/bin/sh", &Sha256Digest::of(b"x")), Judgement::NoFiles);
}

#[tokio::test]
async fn spdx_and_legacy_attestations_are_read_too() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    let envelope = signer.envelope(&image, SPDX, &spdx("SPDX-2.3"));
    bench.double.attest_legacy(&image, &[(envelope, SPDX)]);
    let found = found(&bench, &signer, &image).await;
    assert_eq!(found.sbom().format(), SbomFormat::SPDX);
    let judgement = found.sbom().judge("/bin/busybox", &Sha256Digest::of(b"busybox"));
    assert_eq!(judgement, Judgement::Known { component: Some("busybox@1.37".to_owned()), listed_at: None });
}

#[tokio::test]
async fn strangers_other_images_and_other_documents_do_not_count() {
    let (bench, signer, stranger) = (Bench::new().await, Signer::new(), Signer::new());
    let document = cyclonedx("1.6", &now(), FILES);
    let (none, forged, transplanted, typed) = (
        bench.double.image("1", "none"),
        bench.double.image("2", "forged"),
        bench.double.image("3", "transplanted"),
        bench.double.image("4", "typed"),
    );
    bench.double.attach(&none, BUNDLE, &signer.bundle(&none));
    assert_eq!(missing(&bench, &signer, &none).await, RefusalReason::NoMatchingSbom);
    bench.double.attach(&forged, BUNDLE, &stranger.attestation(&forged, CYCLONEDX, &document));
    assert_eq!(missing(&bench, &signer, &forged).await, RefusalReason::NoMatchingSbom);
    bench.double.attach(&transplanted, BUNDLE, &signer.attestation(&none, CYCLONEDX, &document));
    assert_eq!(missing(&bench, &signer, &transplanted).await, RefusalReason::NoMatchingSbom);
    bench.double.attach(&typed, BUNDLE, &signer.attestation(&typed, "https://cyclonedx.org/vex", &document));
    bench.double.attach(&typed, BUNDLE, &signer.attestation(&typed, "https://slsa.dev/provenance/v1", &document));
    assert_eq!(missing(&bench, &signer, &typed).await, RefusalReason::NoMatchingSbom);
    let bare = bench.double.image("5", "bare");
    assert_eq!(missing(&bench, &signer, &bare).await, RefusalReason::NoSbom);
}

#[tokio::test]
async fn a_version_that_can_not_be_read_is_unsupported_and_not_absent() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    for (name, predicate_type, document) in [
        ("old", CYCLONEDX, cyclonedx("1.3", &now(), FILES)),
        ("new", CYCLONEDX, cyclonedx("2.0", &now(), FILES)),
        ("spdx", SPDX, spdx("SPDX-3.0")),
        ("other", SPDX, json!({"hello": "world"})),
        ("text", SPDX, json!("a tag-value document")),
    ] {
        let image = bench.double.image("1", name);
        bench.double.attach(&image, BUNDLE, &signer.attestation(&image, predicate_type, &document));
        assert_eq!(missing(&bench, &signer, &image).await, RefusalReason::UnsupportedSbom, "{name}");
    }
}

#[tokio::test]
async fn every_version_that_is_told_is_read_and_read_tolerantly() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let file = |path: &str| {
        json!({"type": "file", "name": path, "evidence": null, "hashes": [{"alg": "MD5"},
        {"alg": "SHA-256", "content": Sha256Digest::of(b"app").hex().to_uppercase()}], "x": [1]})
    };
    let odd_cyclonedx = |version: &str| {
        json!({"bomFormat": "CycloneDX", "specVersion": version, "metadata": {"timestamp": now(), "component": null},
            "components": [file("app"), {"type": "library", "hashes": null, "components": null}], "dependencies": null,
            "$schema": "http://cyclonedx.org/schema", "formulation": [{}], "declarations": {"unknown": true}})
    };
    let odd_spdx = |version: &str| {
        let mut odd = spdx(version);
        odd["packages"][0]["externalRefs"] = Value::Null;
        odd["files"] = json!([{"SPDXID": "f", "fileName": "./app", "unknown": 1,
            "checksums": [{"algorithm": "SHA256", "checksumValue": Sha256Digest::of(b"app").hex()}]}]);
        odd["relationships"] = Value::Null;
        odd
    };
    for (predicate_type, document) in [
        (CYCLONEDX, odd_cyclonedx("1.4")),
        ("https://cyclonedx.org/bom/v1.5", odd_cyclonedx("1.5")),
        (CYCLONEDX, odd_cyclonedx("1.6")),
        (CYCLONEDX, odd_cyclonedx("1.7")),
        (SPDX, odd_spdx("SPDX-2.2")),
        ("https://spdx.dev/Document/v2.3", odd_spdx("SPDX-2.3")),
    ] {
        let image = bench.double.image("1", &document.to_string());
        bench.double.attach(&image, BUNDLE, &signer.attestation(&image, predicate_type, &document));
        let found = found(&bench, &signer, &image).await;
        let judgement = found.sbom().judge("/app", &Sha256Digest::of(b"app"));
        assert!(matches!(judgement, Judgement::Known { .. }), "{document}: {judgement:?}");
    }
}

#[tokio::test]
async fn a_policy_asks_for_format_and_age() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = |name: &str, created: &str| {
        let image = bench.double.image("1", name);
        bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
        let document = cyclonedx("1.6", created, FILES);
        bench.double.attach(&image, BUNDLE, &signer.attestation(&image, CYCLONEDX, &document));
        image
    };
    let (young, old, ageless) =
        (image("young", &now()), image("old", "2020-01-01T00:00:00Z"), image("ageless", "then"));
    let reason = async |image: &Sha256Digest, sbom: Value| bench.refused(image, &asking(&signer, &sbom)).await.reason;
    let aged = json!({"required": true, "maxAge": "720h"});
    let proof = bench.proven(&young, &asking(&signer, &aged)).await;
    assert_eq!(proof.evidence().len(), 2);
    assert!(proof.expires_at().is_some_and(|expiry| expiry > jiff::Timestamp::now()));
    assert_eq!(reason(&old, aged.clone()).await, RefusalReason::StaleSbom);
    assert_eq!(reason(&ageless, aged).await, RefusalReason::StaleSbom);
    let spdx_only = json!({"required": true, "formats": ["SPDX"]});
    assert_eq!(reason(&young, spdx_only).await, RefusalReason::UnsupportedSbom);
    bench.proven(&old, &asking(&signer, &json!({"required": true, "formats": ["CycloneDX"]}))).await;
}

#[tokio::test]
async fn of_an_index_the_childrens_are_read() {
    let signer = Signer::new();
    let bench = Bench::new().await.on(&["linux/amd64"]);
    let child = bench.double.image("amd64", "amd64");
    let index = bench.double.index("1", &[("linux/amd64", &child)]);
    bench.double.attach(&child, BUNDLE, &signer.attestation(&child, CYCLONEDX, &cyclonedx("1.7", &now(), FILES)));
    assert_eq!(found(&bench, &signer, &index).await.subjects()[0].digest, child);
}
