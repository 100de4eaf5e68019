//! Hostile input for every reader of what users and registries write.

use bytes::Bytes;
use serde_json::json;
use sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
use zastava_crds::digest::Sha256Digest;

use crate::{
    blob::{self, Blob},
    image::ImageReference,
    keychain::Keychain,
    registry::{Content, Manifest, layers_of, referrers_of},
    requirement::{Identity, PublicKey, ResolvedAuthority, SignatureRequirement, Subject, TrustRoot},
    sbom::Header,
};

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[test]
fn references() {
    let pinned = format!("registry.example:5000/team/app:1.0@{DIGEST}");
    let seeds: [&[u8]; 4] = [pinned.as_bytes(), b"busybox", b"localhost/x/y/z:v1", b"[::1]:5000/app"];
    zastava_fuzz::run(&seeds, 4096, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(image) = text.parse::<ImageReference>() else { return };
        assert_eq!(image.written(), text);
        assert!(!image.canonical().contains('@') && !image.host().is_empty());
        // What a pod is pinned to names the same image, and exactly that digest.
        let digest: Sha256Digest = DIGEST.parse().unwrap();
        let pinned: ImageReference = image.pinned(&digest).parse().unwrap();
        assert_eq!((pinned.canonical(), pinned.digest()), (image.canonical(), Some(&digest)));
    });
}

#[test]
fn manifests_and_referrers() {
    let descriptor = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": DIGEST, "size": 7,
        "platform": {"os": "linux", "architecture": "amd64"}, "annotations": {"a": "b"}});
    let image = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor, "layers": [descriptor, descriptor], "annotations": {"x": "y"}});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor, descriptor, descriptor]});
    let seeds = [image.to_string(), index.to_string()];
    let seeds: Vec<_> = seeds.iter().map(String::as_bytes).collect();
    zastava_fuzz::run(&seeds, 256 * 1024, |input| {
        let content =
            Content { digest: Sha256Digest::of(input), media_type: None, body: Bytes::copy_from_slice(input) };
        let is_index = matches!(Manifest::read(&content), Ok(Manifest::Index(_)));
        let layers = layers_of(&content).map(|layers| layers.len());
        assert!(!is_index || layers.is_err(), "an index has no layers");
        assert!(layers.as_ref().is_err() || layers.as_ref().is_ok_and(|layers| *layers <= 64));
        let referrers = referrers_of(&content);
        assert!(input != seeds[0] || layers.is_ok(), "the image is read");
        assert!(input != seeds[1] || is_index && referrers.is_ok(), "the index is read");
    });
}

#[test]
fn bills_of_materials() {
    let statement = |kind: &str, predicate: serde_json::Value| {
        json!({"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": kind, "predicate": predicate})
            .to_string()
    };
    let file = json!({"type": "file", "name": "/bin/a", "hashes": [{"alg": "SHA-256", "content": &DIGEST[7..]}]});
    let cyclonedx = json!({"bomFormat": "CycloneDX", "specVersion": "1.6",
        "metadata": {"timestamp": "2026-01-01T00:00:00Z"}, "components": [{"name": "a", "components": [file]}, file]});
    let spdx = json!({"spdxVersion": "SPDX-2.3", "creationInfo": {"created": "2026-01-01T00:00:00Z"},
        "files": [{"fileName": "./bin/a", "checksums": [{"algorithm": "SHA256", "checksumValue": &DIGEST[7..]}]}],
        "packages": [{"name": "a", "versionInfo": "1"}]});
    let seeds = [statement("https://cyclonedx.org/bom", cyclonedx), statement("https://spdx.dev/Document", spdx)];
    let seeds: Vec<_> = seeds.iter().map(String::as_bytes).collect();
    zastava_fuzz::run(&seeds, 512 * 1024, |input| {
        assert!(!seeds.contains(&input) | Header::read(input).is_ok(), "a seed is read");
    });
}

#[test]
fn docker_configs_and_keys() {
    let config: &[u8] = br#"{"auths": {"a.example/x": {"auth": "dTpw"}, "*.b.example": {"identitytoken": "t"}}}"#;
    zastava_fuzz::run(&[config], 64 * 1024, |input| match Keychain::from_docker_config(input) {
        Ok(keychain) => drop(keychain.lookup("a.example", "x/y")),
        Err(error) => assert_ne!(input, config, "{error}"),
    });
    let key = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEldVqmVG2hV1o05aB8gTq1ZBiVXon\nIcqWkmgA61uUt8caqng8Cx6vLXfV1kM5jc0konvMpCO+zz5T7ahRqiih2A==\n-----END PUBLIC KEY-----";
    zastava_fuzz::run(&[key.as_bytes()], 4096, |input| {
        let read = std::str::from_utf8(input).is_ok_and(|text| PublicKey::from_pem(text).is_ok());
        assert!(read || input != key.as_bytes(), "the key is read");
    });
}

const BUNDLES: [&[u8]; 4] = [
    include_bytes!("../tests/fixtures/bundles/cosign-v3-blob.sigstore.json"),
    include_bytes!("../tests/fixtures/bundles/rekor-v2-dsse.sigstore.json"),
    include_bytes!("../tests/fixtures/bundles/key-logged.sigstore.json"),
    include_bytes!("../tests/fixtures/bundles/conda-attestation.sigstore.json"),
];

#[test]
fn bundles_with_certificates_logs_and_timestamps() {
    let anybody = Identity::new("https://accounts.example", Subject::Glob("nobody@*.example".to_owned())).unwrap();
    let authority = ResolvedAuthority::keyless(anybody, TrustRoot::public_good().unwrap(), "nobody").unwrap();
    let signed_by = SignatureRequirement::new("release", vec![authority], 1).unwrap();
    let digest: Sha256Digest = DIGEST.parse().unwrap();
    zastava_fuzz::run(&BUNDLES, 128 * 1024, |input| {
        assert!(blob::verify(input, Blob::Digest(&digest), &signed_by).is_err(), "nobody signed anything");
    });
}

#[test]
fn trust_roots() {
    let root = SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes();
    zastava_fuzz::run(&[root], 128 * 1024, |input| {
        let read = std::str::from_utf8(input).is_ok_and(|text| TrustRoot::from_json(text).is_ok());
        assert!(read || input != root, "the bundled root is read");
    });
}
