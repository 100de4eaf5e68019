//! Image layouts on disk: what a real cosign wrote (`cosign.json`), laid out as the tools lay it out.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::time::Instant;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    answer::UnknownCause,
    image::{ImageReference, Platforms},
    keychain::Keychain,
    registry::{Registry, layout::Layout},
    verdict::{RefusalReason, Verdict},
    verifier::{Verifier, VerifierSettings},
};

use super::{bench::policy, signer::Signer};

/// A layout in a folder that goes with it.
struct Folder {
    path: PathBuf,
    entries: Vec<Value>,
}

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("zastava-layout-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        Self { path, entries: Vec::new() }
    }

    fn blob(&self, bytes: &[u8]) -> Sha256Digest {
        let digest = Sha256Digest::of(bytes);
        fs::write(self.path.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        digest
    }

    fn entry(&mut self, manifest: &Value, annotations: &Value) {
        let body = manifest["body"].as_str().unwrap();
        let digest = self.blob(body.as_bytes());
        self.entries.push(json!({"mediaType": manifest["mediaType"], "digest": digest, "size": body.len(),
            "annotations": annotations}));
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }

    async fn verdict(&self, image: &str, pem: &Value) -> Verdict {
        let registry = Registry::new(Vec::new(), &[]).unwrap().through(Arc::new(Layout::open(&self.path).unwrap()));
        let verifier = Verifier::new(registry, VerifierSettings::default());
        let asked = policy(json!({"signatures": [{"name": "release", "authorities": [{"key": {"pem": pem}}]}],
            "sbom": {"required": true}}));
        let image: ImageReference = image.parse().unwrap();
        let deadline = Instant::now() + std::time::Duration::from_secs(20);
        let resolved = match verifier.resolve(&image, &Keychain::default(), deadline).await {
            Ok(resolved) => resolved,
            Err(unknown) => panic!("{image}: {unknown:?}"),
        };
        verifier.verify(&resolved, &asked, &Platforms::Any, &Keychain::default(), deadline).await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn recorded() -> Value {
    serde_json::from_str(include_str!("cosign.json")).unwrap()
}

/// Each way in which cosign attached to the image, with how a tool names the entries of a layout.
fn laid_out(name: &str, place: &str, annotations: impl Fn(&str) -> Value) -> Folder {
    let recorded = recorded();
    let mut folder = Folder::new(name);
    for blob in recorded[place]["blobs"].as_object().unwrap().values() {
        folder.blob(blob.as_str().unwrap().as_bytes());
    }
    for (reference, manifest) in recorded[place]["manifests"].as_object().unwrap() {
        folder.entry(manifest, &annotations(reference));
    }
    folder
}

#[tokio::test]
async fn what_is_attached_is_found_however_a_tool_lays_it_out() {
    let recorded = recorded();
    let key = &recorded["key"];
    let image = recorded["image"].as_str().unwrap();
    let named = |reference: &str, names: Value| if reference.starts_with("sha256:") { json!({}) } else { names };
    let tag = |reference: &str| named(reference, json!({"org.opencontainers.image.ref.name": reference}));
    let full = |reference: &str| {
        let name = format!("registry.example/team/app:{reference}");
        named(reference, json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": reference}))
    };
    let saved = |reference: &str| match reference.rsplit_once('.') {
        Some((_, "sig")) => json!({"kind": "dev.cosignproject.cosign/sigs"}),
        Some((_, "att")) => json!({"kind": "dev.cosignproject.cosign/atts"}),
        _ => json!({"kind": "dev.cosignproject.cosign/image"}),
    };
    let folders = [
        laid_out("subject", "byReferrers", tag),
        laid_out("fallback", "byFallbackTag", tag),
        laid_out("full-names", "byFallbackTag", full),
        laid_out("legacy", "byLegacyTags", tag),
        laid_out("cosign-save", "byLegacyTags", saved),
    ];
    for folder in &folders {
        for reference in ["registry.example/team/app:1".to_owned(), format!("registry.example/team/app@{image}")] {
            let at = format!("{} {reference}", folder.path.display());
            let verdict = folder.verdict(&reference, key).await;
            let Verdict::Proven(proof) = &verdict else { panic!("{at}: {verdict:?}") };
            assert_eq!(proof.digest().digest.as_str(), image, "{at}");
            let proven: Vec<_> = proof.evidence().iter().map(|evidence| evidence.requirement.as_str()).collect();
            assert_eq!(proven, ["signatures[release]", "sbom"], "{at}");
            // Under another key none of it does.
            let verdict = folder.verdict(&reference, &Signer::new().pem().into()).await;
            let Verdict::Refused(refusal) = verdict else { panic!("{at}: {verdict:?}") };
            assert_eq!(refusal.reason, RefusalReason::NoMatchingSignature, "{at}");
        }
    }
}

#[tokio::test]
async fn a_blob_that_was_changed_or_is_missing_proves_nothing() {
    let recorded = recorded();
    for (name, spoil) in [
        ("changed", (|path: &Path| fs::write(path, b"{}").unwrap()) as fn(&Path)),
        ("missing", |path: &Path| fs::remove_file(path).unwrap()),
    ] {
        let folder = laid_out(name, "byReferrers", |_| json!({}));
        for manifest in recorded["byReferrers"]["manifests"].as_object().unwrap().values() {
            let body: Value = serde_json::from_str(manifest["body"].as_str().unwrap()).unwrap();
            if body.get("subject").is_some() {
                let layer = body["layers"][0]["digest"].as_str().unwrap();
                spoil(&folder.path.join("blobs/sha256").join(layer.trim_start_matches("sha256:")));
            }
        }
        let image = format!("registry.example/team/app@{}", recorded["image"].as_str().unwrap());
        let verdict = folder.verdict(&image, &recorded["key"]).await;
        let Verdict::Unknown(unknown) = verdict else { panic!("{name}: {verdict:?}") };
        assert!(matches!(unknown.cause, UnknownCause::Integrity | UnknownCause::RegistryError), "{unknown:?}");
    }
}

#[test]
fn a_folder_that_is_no_layout_is_said_to_be_none() {
    let folder = Folder::new("none");
    let error = Layout::open(&folder.path).unwrap_err().to_string();
    assert!(error.contains("index.json") && error.contains("name the folder of an OCI image layout"), "{error}");
    fs::write(folder.path.join("oci-layout"), r#"{"imageLayoutVersion": "2.0.0"}"#).unwrap();
    let error = Layout::open(&folder.path).unwrap_err().to_string();
    assert!(error.contains("\"2.0.0\" can't be read"), "{error}");
}
