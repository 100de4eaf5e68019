//! `verify`.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Ran,
    double::Double,
    file, no_credentials,
    signer::{BUNDLE, Signer},
    zastava,
};
use crate::ending::Ending;

/// A registry with a signed and an unsigned image, and a folder for files.
struct Bench {
    double: Double,
    signer: Signer,
    folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let (double, signer) = (Double::start().await, Signer::new());
        let image = double.image("signed", "app");
        double.attach(&image, BUNDLE, &signer.bundle(&image));
        double.image("unsigned", "other");
        Self { double, signer, folder: TempDir::new().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn image(&self, tag: &str) -> String {
        format!("{}/team/app:{tag}", self.double.host)
    }

    /// The file of a policy with this key.
    fn policy(&self, name: &str, spec: &Value) -> String {
        let policy = json!({"apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
            "metadata": {"name": name}, "spec": spec});
        file(self.path(), &format!("{name}.json"), &policy.to_string())
    }

    fn signed(&self) -> String {
        self.policy("signed", &asks(&json!({"pem": self.signer.pem()})))
    }

    async fn verify(&self, images: &[&str], arguments: &[&str]) -> Result<Ran, String> {
        let config = no_credentials(self.path());
        let usual = ["--plain-http", self.double.host.as_str(), "--registry-config", config.as_str()];
        zastava(&[&["verify"], images, &usual, arguments].concat()).await
    }
}

fn asks(key: &Value) -> Value {
    json!({"mode": "Enforce", "admission": {"signatures": [{"name": "release", "authorities": [{"key": key}]}]}})
}

#[tokio::test]
async fn each_image_has_its_verdict_with_evidence_or_the_next_step() {
    let bench = Bench::new().await;
    let policy = bench.signed();
    let (signed, unsigned, missing) = (bench.image("signed"), bench.image("unsigned"), bench.image("missing"));
    let ran = bench.verify(&[&signed], &["-f", &policy, "-o", "json"]).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
    let result = &ran.json()["results"][0];
    assert_eq!(result["evidence"][0]["requirement"], "signatures[release]");
    assert_eq!(result["evidence"][0]["subject"], result["digest"]);
    assert!(result["evidence"][0]["signedBy"][0].as_str().unwrap().contains("signatures[release].authorities[0]"));

    let ran = bench.verify(&[&signed, &unsigned], &["-f", &policy, "-o", "json"]).await.unwrap();
    assert_eq!(ran.ending, Ending::Refused);
    let result = &ran.json()["results"][1];
    assert_eq!((&result["verdict"], &result["reason"]), (&json!("Refused"), &json!("no_signature")));
    assert!(result["nextStep"].as_str().unwrap().starts_with("sign it"), "{result}");

    let ran = bench.verify(&[&missing, &signed], &["-f", &policy]).await.unwrap();
    assert_eq!(ran.ending, Ending::Unknown);
    assert!(ran.out.contains("no such image") && ran.out.contains("--registry-config"), "{}", ran.out);
    // What is certain counts for more than what is not known.
    let ran = bench.verify(&[&missing, &unsigned], &["-f", &policy]).await.unwrap();
    assert_eq!(ran.ending, Ending::Refused);
}

#[tokio::test]
async fn the_same_question_gives_the_same_bytes_in_every_format() {
    let bench = Bench::new().await;
    let policy = bench.signed();
    let images = [bench.image("signed"), bench.image("unsigned"), bench.image("missing")];
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    for format in ["table", "json", "yaml"] {
        let first = bench.verify(&images, &["-f", &policy, "-o", format]).await.unwrap().out;
        assert_eq!(bench.verify(&images, &["-f", &policy, "-o", format]).await.unwrap().out, first, "{format}");
        assert_eq!(first.matches("Refused").count(), if format == "table" { 1 } else { 2 }, "{first}");
    }
}

#[tokio::test]
async fn an_image_that_no_policy_speaks_for_is_no_pass() {
    let bench = Bench::new().await;
    let mut spec = asks(&json!({"pem": bench.signer.pem()}));
    spec["match"] = json!({"images": ["registry.example/**"]});
    let elsewhere = bench.policy("elsewhere", &spec);
    let signed = bench.image("signed");
    let ran = bench.verify(&[&signed], &["-f", &elsewhere]).await.unwrap();
    assert_eq!(ran.ending, Ending::Unknown);
    assert!(ran.out.contains("no policy speaks for"), "{}", ran.out);
    let ran = bench.verify(&[&signed], &["-f", &elsewhere, "-f", &bench.signed()]).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied);
    // A suspended policy and unmatched: Deny are as they are at admission.
    spec["suspend"] = json!(true);
    let suspended = bench.policy("suspended", &spec);
    assert_eq!(bench.verify(&[&signed], &["-f", &suspended]).await.unwrap().ending, Ending::Unknown);
    spec["suspend"] = json!(false);
    spec["admission"]["unmatched"] = json!("Deny");
    let closed = bench.policy("closed", &spec);
    let ran = bench.verify(&[&signed], &["-f", &closed]).await.unwrap();
    assert!(ran.ending == Ending::Refused && ran.out.contains("unmatched: Deny"), "{}", ran.out);
    let images = format!("{}/**", bench.double.host);
    spec["exceptions"] = json!([{"name": "legacy", "reason": "is moved", "expires": "2999-01-01T00:00:00Z",
        "match": {"images": [images]}}]);
    let excepted = bench.policy("excepted", &spec);
    let ran = bench.verify(&[&signed], &["-f", &excepted]).await.unwrap();
    assert!(ran.ending == Ending::Satisfied && ran.out.contains("by exception legacy"), "{}", ran.out);
}

#[tokio::test]
async fn helpers_are_asked_for_every_registry_that_is() {
    let bench = Bench::new().await;
    let mut spec = asks(&json!({"pem": bench.signer.pem()}));
    let signed = bench.image("signed");
    let helper = |host: &str| {
        let config = json!({"credHelpers": {host: "absent-in-tests"}}).to_string();
        file(bench.path(), "helpers.json", &config)
    };
    let told = async |policy: &str, host: &str, arguments: &[&str]| {
        let config = helper(host);
        let usual = ["-f", policy, "--registry-config", &config, "--plain-http", &bench.double.host];
        zastava(&[&["verify", &signed], &usual[..], arguments].concat()).await.err()
    };
    let policy = bench.policy("signed", &spec);
    let mirror = format!("{}=mirror.example:5000/cache", bench.double.host);
    let asked = told(&policy, "mirror.example:5000", &["--mirror", &mirror]).await.unwrap_or_default();
    assert!(asked.contains("docker-credential-absent-in-tests for mirror.example:5000: "), "{asked}");
    // Who is not asked needs no credentials.
    assert_eq!(told(&policy, "mirror.example:5000", &[]).await, None);
    let digest = format!("sha256:{}", "0".repeat(64));
    spec["admission"]["baseImages"] = json!([format!("base.example/os@{digest}")]);
    let based = bench.policy("based", &spec);
    let asked = told(&based, "base.example", &[]).await.unwrap_or_default();
    assert!(asked.contains("docker-credential-absent-in-tests for base.example: "), "{asked}");
}

#[tokio::test]
async fn keys_come_from_files_of_either_form_and_their_lack_is_told() {
    let bench = Bench::new().await;
    let policy = bench.policy("signed", &asks(&json!({"secretRef": {"name": "cosign", "key": "cosign.pub"}})));
    let signed = bench.image("signed");
    let why = bench.verify(&[&signed], &["-f", &policy]).await.err().unwrap();
    assert!(why.contains("Secret zastava-system/cosign") && why.contains("--resource or --key-dir"), "{why}");

    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cosign"},
        "stringData": {"cosign.pub": bench.signer.pem(), "cosign.key": "-----BEGIN PRIVATE KEY-----"}});
    let resource = file(bench.path(), "secret.yaml", &secret.to_string());
    let ran = bench.verify(&[&signed], &["-f", &policy, "--resource", &resource]).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
    // Policies' references resolve in Zastava's namespace only.
    let why = bench.verify(&[&signed], &["-f", &policy, "--resource", &resource, "-n", "other"]).await;
    assert_eq!(why.unwrap().ending, Ending::Satisfied, "an object without a namespace is where it is looked for");
    let mut elsewhere = secret.clone();
    elsewhere["metadata"]["namespace"] = json!("tenant");
    let resource = file(bench.path(), "tenant.yaml", &elsewhere.to_string());
    assert!(bench.verify(&[&signed], &["-f", &policy, "--resource", &resource]).await.is_err());

    file(bench.path(), "keys/cosign/cosign.pub", &bench.signer.pem());
    let keys = bench.path().join("keys").display().to_string();
    let ran = bench.verify(&[&signed], &["-f", &policy, "--key-dir", &keys]).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
}

#[tokio::test]
async fn an_invalid_policy_is_refused_as_by_the_api_server_with_its_place() {
    let bench = Bench::new().await;
    let text = "# ours\n---\napiVersion: zastava.stella-ops.org/v1alpha1\nkind: ZastavaPolicy\nmetadata: {name: p}\n\
        spec:\n  mode: Enforce\n  admission: {digests: \"Off\"}\n";
    let policy = file(bench.path(), "p.yaml", text);
    let why = bench.verify(&["a/b:1"], &["-f", &policy]).await.err().unwrap();
    let at = format!("{policy}:3: The ZastavaPolicy \"p\" is invalid: ");
    assert!(why.starts_with(&at) && why.contains("mode Enforce needs pinned images"), "{why}");
    let policy = file(bench.path(), "p.yaml", &text.replace("digests: \"Off\"", "sinatures: []"));
    let why = bench.verify(&["a/b:1"], &["-f", &policy]).await.err().unwrap();
    assert!(why.contains("unknown field \"spec.admission.sinatures\""), "{why}");
    let other = file(bench.path(), "pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n");
    let why = bench.verify(&["a/b:1"], &["-f", &other]).await.err().unwrap();
    assert!(why.contains("\"Pod\" of \"v1\" is no ZastavaPolicy"), "{why}");
    let why = bench.verify(&["not an image"], &["-f", &bench.signed()]).await.err().unwrap();
    assert!(why.contains("not an image"), "{why}");
}

#[tokio::test]
async fn an_image_layout_needs_no_registry() {
    let bench = Bench::new().await;
    let layout = bench.path().join("layout");
    let write = |bytes: &[u8]| {
        let digest = zastava_crds::digest::Sha256Digest::of(bytes);
        file(&layout, &format!("blobs/sha256/{}", digest.hex()), std::str::from_utf8(bytes).unwrap());
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": bytes.len()})
    };
    let manifest = |layers: Value, subject: Option<&Value>| {
        let mut manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": write(b"{}")["digest"], "size": 2},
            "layers": layers});
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        write(manifest.to_string().as_bytes())
    };
    let mut image = manifest(json!([]), None);
    let digest = image["digest"].as_str().unwrap().to_owned();
    let mut layer = write(bench.signer.bundle(&digest.parse().unwrap()).to_string().as_bytes());
    layer["mediaType"] = BUNDLE.into();
    let signature = manifest(json!([layer]), Some(&image));
    image["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    file(&layout, "oci-layout", "{\"imageLayoutVersion\": \"1.0.0\"}");
    file(&layout, "index.json", &json!({"schemaVersion": 2, "manifests": [image, signature]}).to_string());
    let layout = layout.display().to_string();
    let policy = bench.signed();
    for image in ["registry.example/team/app:1", &digest, &format!("registry.example/team/app@{digest}")] {
        let ran = zastava(&["verify", image, "-f", &policy, "--layout", &layout]).await.unwrap();
        assert_eq!(ran.ending, Ending::Satisfied, "{image}: {}", ran.out);
    }
    let ran = zastava(&["verify", "registry.example/team/app:2", "-f", &policy, "--layout", &layout]).await.unwrap();
    assert_eq!(ran.ending, Ending::Unknown);
}
