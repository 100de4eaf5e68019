//! What is asked once, what is remembered, and what never is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::join_all;
use serde_json::json;
use zastava_verify::verdict::{RefusalReason, Verdict};

use super::{
    bench::{Bench, generation, release, signed_by, soon},
    double::manifest,
    signer::{BUNDLE, Signer},
};

#[tokio::test]
async fn a_herd_of_equal_questions_is_one_conversation_and_a_proof_is_remembered() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let policy = signed_by(&signer);
    let verdicts = join_all((0..100).map(|_| bench.verify(&image, &policy))).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Proven(_))));
    let asked = bench.double.asked();
    assert_eq!(asked.len(), 4, "manifest, referrers, the bundle's manifest and its blob: {asked:?}");
    bench.proven(&image, &policy).await;
    assert!(bench.double.asked().is_empty(), "a warm proof asks nobody");
}

#[tokio::test]
async fn a_verdict_of_one_policy_or_key_is_none_of_another() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let release = |signer: &Signer| generation(1, json!({"signatures": release(&[signer], 1)}));
    bench.proven(&image, &release(&signer)).await;
    // The same policy by name, UID and generation, after the Secret with its key was changed.
    assert_eq!(bench.refused(&image, &release(&Signer::new())).await.reason, RefusalReason::NoMatchingSignature);
}

/// A registry that shows another image at each look.
#[tokio::test]
async fn a_tag_that_moves_between_two_looks_is_looked_at_once() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "signed");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let unsigned = "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"layers\":[]}";
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    bench.double.hook(move |asked, _| {
        if asked != "manifests/1" || counted.fetch_add(1, Ordering::SeqCst) == 0 {
            return None;
        }
        Some(manifest("application/vnd.oci.image.manifest.v1+json", unsigned.as_bytes().to_vec()))
    });
    let resolved = bench.resolve(":1").await.unwrap();
    let verdict =
        bench.verifier.verify(&resolved, &signed_by(&signer), &bench.platforms, &bench.keychain, soon()).await;
    let Verdict::Proven(proof) = verdict else { panic!("{verdict:?}") };
    assert_eq!(proof.digest().digest, image);
    assert!(resolved.pinned().ends_with(&format!(":1@{image}")), "what is pinned is what was verified");
    assert_eq!(looks.load(Ordering::SeqCst), 1);
    // Asked again inside every memory's time, the tag is what it is now, and that is not proven.
    let moved = bench.resolve(":1").await.unwrap();
    assert_ne!(moved.digest(), resolved.digest());
    bench.refused_for(moved.digest(), &signer, RefusalReason::NoSignature, "no signature").await;
}

#[tokio::test]
async fn the_first_look_alone_is_taken_from_the_registrys_memory() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let resolved = bench.resolve(":1").await.unwrap();
    bench.verifier.verify(&resolved, &signed_by(&signer), &bench.platforms, &bench.keychain, soon()).await;
    let asked = bench.double.asked();
    assert_eq!(asked.len(), 4, "the manifest is not read again by digest: {asked:?}");
}

#[tokio::test]
async fn tags_are_asked_beside_the_rest_where_a_repository_has_its_signatures_there() {
    let (mut bench, signer) = (Bench::new().await, Signer::new());
    let policy = signed_by(&signer);
    let legacy = bench.double.image("1", "one");
    bench.double.sign_legacy(&legacy, &[signer.simple_signing(&legacy)]);
    bench.proven(&legacy, &policy).await;
    bench.double.asked();
    // Bundles from now on: tags are asked for in vain once, and no more.
    let tags = |asked: &[String]| asked.iter().filter(|asked| asked.contains("/sha256-")).count();
    let bundled = |name: &str| {
        let image = bench.double.image(name, name);
        bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
        image
    };
    let (two, three) = (bundled("2"), bundled("3"));
    bench.proven(&two, &policy).await;
    assert_eq!(tags(&bench.double.asked()), 3);
    bench.proven(&three, &policy).await;
    assert_eq!(tags(&bench.double.asked()), 0);
    bench.forget();
    bench.proven(&two, &policy).await;
    assert_eq!(tags(&bench.double.asked()), 0, "nothing is expected of a repository that is not known");
}

#[tokio::test]
async fn what_memory_answered_is_counted() {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let policy = signed_by(&signer);
    for _ in 0..3 {
        bench.proven(&image, &policy).await;
    }
    let mut registry = prometheus_client::registry::Registry::default();
    bench.verifier.counts().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("zastava_admission_cache_hits_total 2\n"), "{text}");
    assert!(text.contains("zastava_admission_verifications_total 1\n"), "{text}");
}
