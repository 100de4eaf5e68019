//! The texts themselves, as `kubectl` prints them: whoever reads one knows what to do.

use serde_json::json;
use zastava_verify::answer::UnknownCause;

use crate::fixtures::{Bench, MISSING, SIGNED, UNSIGNED, of_kind, pinned, pod, signed};

async fn refusal(bench: &Bench, object: &serde_json::Value) -> String {
    let answer = bench.create("one", object).await;
    assert!(!answer.allowed());
    assert!(answer.message().lines().count() <= 10 && answer.message().len() <= 4096, "{}", answer.message());
    answer.message().to_owned()
}

#[tokio::test]
async fn no_signature() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    insta::assert_snapshot!(refusal(&bench, &pod(&pinned(UNSIGNED, 'b'))).await, @r#"
    policy policy-one refuses 1 of 1 images:
    container app: registry.example/prod/app:unsigned@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
      asked: signatures[release]; found: no signature
      next: sign the image
    "#);
}

#[tokio::test]
async fn not_pinned() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    insta::assert_snapshot!(refusal(&bench, &pod(SIGNED)).await, @r#"
    policy policy-one refuses 1 of 1 images:
    container app: registry.example/prod/app:signed (sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa)
      asked: digests; found: the reference is not pinned: pinning did not answer in time, or the image was changed after it
      next: apply it again, or write the reference with its digest
    "#);
}

#[tokio::test]
async fn digest_not_written() {
    let bench = Bench::new(&[("one", json!({"mode": "Enforce", "admission": {"digests": "Require"}}))]);
    insta::assert_snapshot!(refusal(&bench, &pod(SIGNED)).await, @r#"
    policy policy-one refuses 1 of 1 images:
    container app: registry.example/prod/app:signed
      asked: digests: Require; found: the reference has no digest
      next: write the reference as name@sha256:…
    "#);
}

#[tokio::test]
async fn registry_does_not_answer() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    *bench.engine.down.lock().unwrap() = Some(UnknownCause::Unreachable);
    insta::assert_snapshot!(refusal(&bench, &pod(&pinned(SIGNED, 'a'))).await, @r#"
    policy policy-one refuses 1 of 1 images:
    container app: registry.example/prod/app:signed@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
      asked: verification; found: the registry does not answer
      next: check that the registry is up and reachable from Zastava's namespace
    "#);
}

#[tokio::test]
async fn no_such_image() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    insta::assert_snapshot!(refusal(&bench, &pod(MISSING)).await, @r#"
    policy policy-one refuses 1 of 1 images:
    container app: registry.example/prod/app:missing
      asked: verification; found: no image registry.example/prod/app:missing
      next: if a pull secret is needed: add namespace default to registries.pullSecrets.namespaces of Zastava's chart
    "#);
}

#[tokio::test]
async fn no_reference() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    insta::assert_snapshot!(refusal(&bench, &pod("UPPER/Case:1")).await, @r#"
    policy policy-one refuses 1 of 1 images:
    container app: UPPER/Case:1
      asked: image reference; found: "UPPER/Case:1" is not an image reference: invalid reference format
      next: write a reference such as registry.example/app:1
    "#);
}

#[tokio::test]
async fn no_policy_selects_it() {
    let mut spec = signed("Enforce");
    spec["match"] = json!({"images": ["registry.example/other/**"]});
    spec["admission"]["unmatched"] = json!("Deny");
    let bench = Bench::new(&[("one", spec)]);
    insta::assert_snapshot!(refusal(&bench, &pod(&pinned(SIGNED, 'a'))).await, @r#"
    policy policy-one refuses 1 of 1 images:
    container app: registry.example/prod/app:signed@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
      asked: unmatched: Deny; found: no policy in force selects registry.example/prod/app
      next: use an image that a policy selects, or add registry.example/prod/app to spec.match.images of the policy that verifies it
    "#);
}

#[tokio::test]
async fn more_images_than_a_message_holds() {
    let bench = Bench::new(&[("one", signed("Enforce"))]);
    let image = pinned(UNSIGNED, 'b');
    let containers: Vec<_> = (0..20).map(|i| json!({"name": format!("c{i}"), "image": image})).collect();
    insta::assert_snapshot!(refusal(&bench, &of_kind("Pod", &json!({"containers": containers}))).await, @r#"
    policy policy-one refuses 20 of 20 images:
    container c0: registry.example/prod/app:unsigned@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
      asked: signatures[release]; found: no signature
      next: sign the image
    container c1: registry.example/prod/app:unsigned@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
      asked: signatures[release]; found: no signature
      next: sign the image
    and 18 more
    "#);
}

#[tokio::test]
async fn a_warning() {
    let bench = Bench::new(&[("one", signed("Warn"))]);
    let answer = bench.create("one", &pod(&pinned(UNSIGNED, 'b'))).await;
    insta::assert_snapshot!(answer.warnings().join("\n"), @r#"policy policy-one: container app would be refused under Enforce: signatures[release]: no signature; registry.example/prod/app:unsigned@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb; sign the image"#);
}

#[tokio::test]
async fn an_exception_in_the_audit_log() {
    let mut spec = signed("Enforce");
    spec["exceptions"] = json!([{"name": "known", "reason": "rebuilt in March, agreed with security",
        "expires": "2999-01-01T00:00:00Z", "match": {"namespaces": ["default"]}}]);
    let bench = Bench::new(&[("one", spec)]);
    let answer = bench.create("one", &pod(&pinned(UNSIGNED, 'b'))).await;
    insta::assert_snapshot!(answer.audit("exceptions"), @r#"container app: known until 2999-01-01T00:00:00Z (rebuilt in March, agreed with security)"#);
}
