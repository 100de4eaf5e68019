//! `verify-blob`, on bundles that others made.

use super::{file, zastava};
use crate::ending::Ending;

const BUNDLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../webhook/verify/tests/fixtures/bundles");

fn fixture(name: &str) -> String {
    format!("{BUNDLES}/{name}")
}

#[tokio::test]
async fn a_file_under_a_key_and_a_changed_file_under_the_same() {
    let (bundle, key) = (fixture("key-logged.sigstore.json"), fixture("key-logged.pub"));
    let blob = fixture("key-logged.txt");
    let asked = |blob: &str| {
        ["verify-blob", blob, "--bundle", &bundle, "--key", &key, "-o", "json"].map(str::to_owned).to_vec()
    };
    let run = async |blob: &str| {
        let arguments = asked(blob);
        zastava(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap()
    };
    let ran = run(&blob).await;
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
    assert_eq!(ran.json()["verdict"], "Satisfied");
    assert!(ran.json()["signedBy"][0].as_str().unwrap().contains("key "), "{}", ran.out);
    // Its digest is enough.
    let digest = ran.json()["digest"].as_str().unwrap().to_owned();
    assert_eq!(run(&digest).await.ending, Ending::Satisfied);
    let folder = tempfile::TempDir::new().unwrap();
    let changed = file(folder.path(), "changed", "something else");
    let ran = run(&changed).await;
    assert_eq!(ran.ending, Ending::Refused, "{}", ran.out);
    assert!(ran.json()["message"].as_str().unwrap().contains("no signature that counts"), "{}", ran.out);
}

#[tokio::test]
async fn who_must_have_signed_has_to_be_said_and_only_once() {
    let bundle = fixture("key-logged.sigstore.json");
    for wrong in [
        &["verify-blob", "f", "--bundle", &bundle][..],
        &["verify-blob", "f", "--bundle", &bundle, "--issuer", "https://a.example"],
        &["verify-blob", "f", "--bundle", &bundle, "--key", "k", "--issuer", "https://a.example", "--subject", "s"],
        &["verify-blob", "f", "--bundle", &bundle, "--key", "k", "--subject", "s"],
    ] {
        assert!(zastava(wrong).await.err().unwrap().contains("Usage:"), "{wrong:?}");
    }
    let why = zastava(&["verify-blob", "f", "--bundle", &bundle, "--key", "nowhere.pub"]).await.err().unwrap();
    assert!(why.starts_with("nowhere.pub: "), "{why}");
}

#[tokio::test]
async fn a_file_under_an_identity_and_not_under_another_or_another_root() {
    let (bundle, blob) = (fixture("cosign-v3-blob.sigstore.json"), fixture("cosign-v3-blob.txt"));
    let run = async |arguments: &[&str]| {
        let issuer = ["--bundle", bundle.as_str(), "--issuer", "https://github.com/login/oauth", "-o", "json"];
        zastava(&[&["verify-blob", blob.as_str()], &issuer[..], arguments].concat()).await
    };
    for accepted in [["--subject", "w.vollprecht@gmail.com"], ["--subject-glob", "*@gmail.com"]] {
        let ran = run(&accepted).await.unwrap();
        assert_eq!(ran.ending, Ending::Satisfied, "{accepted:?}: {}", ran.out);
    }
    for refused in [["--subject", "vollprecht@gmail.com"], ["--subject-glob", "@gmail.com"]] {
        let ran = run(&refused).await.unwrap();
        assert_eq!(ran.ending, Ending::Refused, "{refused:?}");
        assert_eq!(ran.json()["reason"], "other_identity", "{refused:?}");
    }
    let folder = tempfile::TempDir::new().unwrap();
    let root = file(folder.path(), "root.json", "{}");
    let why = run(&["--subject", "a", "--trust-root", &root]).await.err().unwrap();
    assert!(why.contains("--trust-root: ") && why.contains("root.json"), "{why}");
}
