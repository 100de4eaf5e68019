//! `policy test` and `policy record`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use axum::{http::StatusCode, response::IntoResponse};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Ran,
    double::Double,
    file,
    signer::{BUNDLE, Signer},
    zastava,
};
use crate::ending::Ending;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/policy-test");

/// All files below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
    found
}

fn copy_of_example() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files(Path::new(EXAMPLE)) {
        let to = folder.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    let path = folder.path().display().to_string();
    (folder, path)
}

#[tokio::test]
async fn the_example_passes() {
    let ran = zastava(&["policy", "test", EXAMPLE]).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
    assert!(ran.out.ends_with("6 passed, 0 failed, 0 unknown\n"), "{}", ran.out);
}

/// The example's answers are those of a registry with what a real cosign wrote. With `ZASTAVA_RECORD_EXAMPLE` set they
/// are written anew.
#[tokio::test]
async fn recording_the_example_again_gives_the_same_bytes() {
    let (folder, path) = copy_of_example();
    let ran = record_example(&path).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
    let answers = folder.path().join("recorded");
    if std::env::var_os("ZASTAVA_RECORD_EXAMPLE").is_some() {
        for (name, bytes) in files(&answers) {
            file(&Path::new(EXAMPLE).join("recorded"), name.to_str().unwrap(), std::str::from_utf8(&bytes).unwrap());
        }
    }
    assert_eq!(files(&answers), files(&Path::new(EXAMPLE).join("recorded")));
}

#[tokio::test]
async fn what_was_recorded_and_broke_is_recorded_anew() {
    let (folder, path) = copy_of_example();
    let recorded = folder.path().join("recorded");
    for body in fs::read_dir(recorded.join("blobs")).unwrap() {
        fs::write(body.unwrap().path(), "changed").unwrap();
    }
    let ran = record_example(&path).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
    assert_eq!(files(&recorded), files(&Path::new(EXAMPLE).join("recorded")));
    // What was written by hand is lost with it, which is told.
    fs::write(recorded.join("answers.json"), "<<<<<<< ours").unwrap();
    let ran = record_example(&path).await.unwrap();
    assert_eq!(ran.ending, Ending::Unknown, "{}", ran.out);
    assert!(ran.out.contains("answers.json is written anew, nothing is kept of what it held: "), "{}", ran.out);
    assert!(ran.out.contains("not recorded: down.example/v2/team/app/manifests/1: "), "{}", ran.out);
    assert_eq!(zastava(&["policy", "test", &path]).await.unwrap().ending, Ending::Unknown);
}

#[tokio::test]
async fn a_misspelt_class_is_told_with_those_there_are_and_is_not_recorded_over() {
    let (folder, path) = copy_of_example();
    let answers = folder.path().join("recorded/answers.json");
    let text = fs::read_to_string(&answers).unwrap().replace("\"unreachable\"", "\"unreachabel\"");
    fs::write(&answers, &text).unwrap();
    let told = zastava(&["policy", "test", &path]).await.err().unwrap();
    for part in
        ["answers.json: down.example/v2/team/app/manifests/1: ", "\"unreachabel\"", "unreachable, ", "rate_limited"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(record_example(&path).await.err().unwrap(), told);
    assert_eq!(fs::read_to_string(&answers).unwrap(), text);
}

#[tokio::test]
async fn what_is_recorded_is_a_file_of_its_own() {
    let (folder, path) = copy_of_example();
    let answers = folder.path().join("recorded/answers.json");
    fs::remove_file(&answers).unwrap();
    std::os::unix::fs::symlink("/dev/null", &answers).unwrap();
    let told = zastava(&["policy", "test", &path]).await.err().unwrap();
    assert!(told.contains("answers.json: is not a file"), "{told}");
}

/// Records over a registry with what the example needs.
async fn record_example(path: &str) -> Result<Ran, String> {
    let double = Double::start().await;
    let recorded: Value =
        serde_json::from_str(include_str!("../../../webhook/verify/tests/engine/cosign.json")).unwrap();
    double.load(&recorded["byReferrers"]);
    double.image("unsigned", "app");
    let elsewhere = TempDir::new().unwrap();
    let config = super::no_credentials(elsewhere.path());
    let mirror = format!("registry.example={}", double.host);
    // Nothing listens there.
    let record = [
        "policy",
        "record",
        path,
        "--mirror",
        &mirror,
        "--plain-http",
        &double.host,
        "--mirror",
        "down.example=127.0.0.1:1",
        "--plain-http",
        "127.0.0.1:1",
        "--registry-config",
        &config,
    ];
    zastava(&record).await
}

#[tokio::test]
async fn no_case_is_updated_where_one_can_not_be() {
    let (folder, path) = copy_of_example();
    let cases = folder.path().join("cases");
    for (name, from, to) in [
        ("signed.yaml", "decision: Allowed", "decision: Denied"),
        ("unsigned.yaml", "decision: Denied\n", "decision: Allowed\n# both\n"),
    ] {
        let text = fs::read_to_string(cases.join(name)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(cases.join(name), text.replace(from, to)).unwrap();
    }
    let before = files(&cases);
    let told = zastava(&["policy", "test", &path, "--update"]).await.err().unwrap();
    assert!(told.contains("unsigned.yaml: expect is no block of its own lines"), "{told}");
    assert_eq!(files(&cases), before);
}

#[tokio::test]
async fn a_decision_that_is_another_than_expected_is_shown_and_can_be_taken_over() {
    let (folder, path) = copy_of_example();
    let case = folder.path().join("cases/unsigned.yaml");
    let text = fs::read_to_string(&case).unwrap();
    let wrong = text.replace("decision: Denied", "decision: Allowed").replace("found: no signature", "found: nothing");
    fs::write(&case, &wrong).unwrap();
    let junit = folder.path().join("junit.xml").display().to_string();
    let ran = zastava(&["policy", "test", &path, "--junit", &junit]).await.unwrap();
    assert_eq!(ran.ending, Ending::Refused);
    for line in ["Failed  unsigned: ", "  expect.decision\n    - Allowed\n    + Denied\n", "  expect.messages[1]\n"] {
        assert!(ran.out.contains(line), "{line}: {}", ran.out);
    }
    let xml = fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("tests=\"6\" failures=\"1\" errors=\"0\"") && xml.contains("name=\"unsigned\""), "{xml}");
    let ran = zastava(&["policy", "test", &path, "-o", "json"]).await.unwrap();
    let failed: Vec<_> =
        ran.json()["cases"].as_array().unwrap().iter().filter(|c| c["result"] == "Failed").cloned().collect();
    assert_eq!(
        failed[0]["differences"][0],
        json!({"field": "expect.decision", "expected": "Allowed", "got": "Denied"})
    );

    let ran = zastava(&["policy", "test", &path, "--update"]).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
    let updated = fs::read_to_string(&case).unwrap();
    assert!(updated.contains("decision: Denied") && updated.contains("description: an image"), "{updated}");
    assert_eq!(zastava(&["policy", "test", &path]).await.unwrap().ending, Ending::Satisfied);
}

#[tokio::test]
async fn what_is_not_recorded_is_unknown_whatever_is_expected() {
    let (folder, path) = copy_of_example();
    let answers = folder.path().join("recorded/answers.json");
    let mut recorded: Value = serde_json::from_str(&fs::read_to_string(&answers).unwrap()).unwrap();
    recorded["answers"].as_object_mut().unwrap().remove("down.example");
    fs::write(&answers, recorded.to_string()).unwrap();
    let ran = zastava(&["policy", "test", &path]).await.unwrap();
    assert_eq!(ran.ending, Ending::Unknown, "{}", ran.out);
    assert!(ran.out.contains("not recorded: down.example/v2/team/app/manifests/1\n"), "{}", ran.out);
    // Nor may an update call that expected.
    let ran = zastava(&["policy", "test", &path, "--update"]).await.unwrap();
    assert_eq!(ran.ending, Ending::Unknown);
}

#[tokio::test]
async fn the_cryptography_runs_again_on_the_recorded_bytes() {
    let (folder, path) = copy_of_example();
    let keys = folder.path().join("resources/cluster.yaml");
    let text = fs::read_to_string(&keys).unwrap();
    let (from, to) = (text.find("-----BEGIN").unwrap(), text.find("-----END PUBLIC KEY-----").unwrap() + 24);
    let other = Signer::new().pem().trim().replace('\n', "\n    ");
    fs::write(&keys, format!("{}{other}{}", &text[..from], &text[to..])).unwrap();
    // Whoever finds no signature that counts asks for more places than whoever found one.
    let ran = zastava(&["policy", "test", &path, "-o", "json"]).await.unwrap();
    assert_eq!(ran.ending, Ending::Unknown);
    let answers = folder.path().join("recorded/answers.json");
    let mut recorded: Value = serde_json::from_str(&fs::read_to_string(&answers).unwrap()).unwrap();
    for case in ran.json()["cases"].as_array().unwrap() {
        for missing in case["notRecorded"].as_array().into_iter().flatten() {
            let path = missing.as_str().unwrap().strip_prefix("registry.example").unwrap();
            recorded["answers"]["registry.example"][path] = json!({"none": {}});
        }
    }
    fs::write(&answers, recorded.to_string()).unwrap();
    let ran = zastava(&["policy", "test", &path]).await.unwrap();
    assert_eq!(ran.ending, Ending::Refused, "{}", ran.out);
    assert!(ran.out.contains("Failed  signed: ") && ran.out.contains("made by another key"), "{}", ran.out);
    // A body that was changed is not what was recorded.
    let (folder, path) = copy_of_example();
    let blob = fs::read_dir(folder.path().join("recorded/blobs")).unwrap().next().unwrap().unwrap().path();
    fs::write(&blob, "changed").unwrap();
    let why = zastava(&["policy", "test", &path]).await.err().unwrap();
    assert!(why.contains("its bytes were changed"), "{why}");
}

#[tokio::test]
async fn no_credential_is_recorded_and_a_pods_pull_secret_is_used() {
    let double = Double::start().await;
    let signer = Signer::new();
    let image = double.image("1", "app");
    double.attach(&image, BUNDLE, &signer.bundle(&image));
    let basic = format!("Basic {}", STANDARD.encode("robot:hunter2"));
    let wanted = basic.clone();
    double.hook(move |_, headers| {
        let given = headers.get("authorization").and_then(|value| value.to_str().ok());
        (given != Some(wanted.as_str()))
            .then(|| (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"r\"")], "").into_response())
    });
    let folder = TempDir::new().unwrap();
    let put = |name: &str, value: &Value| file(folder.path(), name, &value.to_string());
    put(
        "policy.yaml",
        &json!({"apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
        "metadata": {"name": "signed"}, "spec": {"mode": "Enforce", "admission": {"signatures": [
            {"name": "release", "authorities": [{"key": {"pem": signer.pem()}}]}]}}}),
    );
    let config = json!({"auths": {&double.host: {"username": "robot", "password": "hunter2"}}}).to_string();
    put(
        "resources/pull.yaml",
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "namespace": "shop"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config}}),
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "spec": {
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "app", "image": format!("{}/team/app:1", double.host)}]}});
    put("cases/private.yaml", &json!({"object": pod, "expect": {"decision": "Allowed"}}));
    let path = folder.path().display().to_string();
    let elsewhere = TempDir::new().unwrap();
    let none = super::no_credentials(elsewhere.path());
    let record = ["policy", "record", &path, "--plain-http", &double.host, "--registry-config", &none];
    let ran = zastava(&record).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
    let first = files(&folder.path().join("recorded"));
    assert!(first.len() > 3, "{first:?}");
    for (name, bytes) in &first {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        for secret in ["hunter2", "authorization", basic.to_lowercase().as_str(), "www-authenticate"] {
            assert!(!text.contains(secret), "{secret} in {}", name.display());
        }
    }
    // What is left of an earlier recording goes, and the rest is the same.
    file(folder.path(), "recorded/blobs/0000", "stale");
    zastava(&record).await.unwrap();
    assert_eq!(files(&folder.path().join("recorded")), first);
    let ran = zastava(&["policy", "test", &path]).await.unwrap();
    assert_eq!(ran.ending, Ending::Satisfied, "{}", ran.out);
}

#[tokio::test]
async fn a_folder_that_can_not_be_used_is_told_by_file_and_line() {
    let (folder, path) = copy_of_example();
    let case = folder.path().join("cases/signed.yaml");
    fs::write(&case, "\n# nothing is expected\nobject: {apiVersion: v1, kind: Pod}\n").unwrap();
    let why = zastava(&["policy", "test", &path]).await.err().unwrap();
    assert!(why.contains("signed.yaml:3: ") && why.contains("expect"), "{why}");
    fs::write(&case, "object: {kind: Pod}\nexpect: {decision: Allowed}\n").unwrap();
    let why = zastava(&["policy", "test", &path]).await.err().unwrap();
    assert!(why.contains("signed.yaml:1: object.apiVersion is absent"), "{why}");
    for metadata in ["[web]", "web"] {
        let text =
            format!("object: {{apiVersion: v1, kind: Pod, metadata: {metadata}}}\nexpect: {{decision: Allowed}}\n");
        fs::write(&case, text).unwrap();
        let why = zastava(&["policy", "test", &path]).await.err().unwrap();
        assert!(why.contains("signed.yaml:1: object.metadata is no mapping"), "{why}");
    }
    let (folder, path) = copy_of_example();
    fs::remove_dir_all(folder.path().join("resources")).unwrap();
    let why = zastava(&["policy", "test", &path]).await.err().unwrap();
    assert!(why.contains("release-keys") && why.contains("put its manifest into resources/"), "{why}");
}
