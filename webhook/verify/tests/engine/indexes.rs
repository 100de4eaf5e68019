//! Images for several platforms: signed as a whole, or child by child.

use zastava_crds::digest::DigestKind;
use zastava_verify::verdict::RefusalReason;

use super::{
    bench::{Bench, signed_by},
    signer::{BUNDLE, Signer},
};

#[tokio::test]
async fn a_signed_index_speaks_for_its_children() {
    let signer = Signer::new();
    let bench = Bench::new().await.on(&["linux/amd64"]);
    let child = bench.double.image("amd64", "amd64");
    let index = bench.double.index("1", &[("linux/amd64", &child)]);
    bench.double.attach(&index, BUNDLE, &signer.bundle(&index));
    let proof = bench.proven(&index, &signed_by(&signer)).await;
    assert_eq!(proof.digest().kind, DigestKind::Index);
    bench.refused_for(&child, &signer, RefusalReason::NoSignature, "no signature").await;
}

#[tokio::test]
async fn an_index_is_proven_by_all_children_that_can_run_and_by_no_fewer() {
    let signer = Signer::new();
    let mut bench = Bench::new().await;
    let (amd64, arm64, attestation) =
        (bench.double.image("a", "amd64"), bench.double.image("b", "arm64"), bench.double.image("c", "attestation"));
    let index =
        bench.double.index("1", &[("linux/amd64", &amd64), ("linux/arm64", &arm64), ("unknown/unknown", &attestation)]);
    bench.double.attach(&amd64, BUNDLE, &signer.bundle(&amd64));
    let bench_amd64 = Bench::new().await.on(&["linux/amd64"]);
    bench.platforms = bench_amd64.platforms.clone();
    let proof = bench.proven(&index, &signed_by(&signer)).await;
    assert_eq!(proof.evidence()[0].subject.digest, amd64);
    // With an arm64 node in the cluster the other child counts too.
    let mut bench = bench.on(&["linux/amd64", "linux/arm64"]);
    let refusal = bench.refused(&index, &signed_by(&signer)).await;
    assert!(refusal.found.contains("linux/arm64"), "{refusal:?}");
    bench.double.attach(&arm64, BUNDLE, &signer.bundle(&arm64));
    bench.forget();
    assert_eq!(bench.proven(&index, &signed_by(&signer)).await.evidence().len(), 2);
}

#[tokio::test]
async fn an_unsigned_index_without_a_child_that_can_run_is_refused_and_a_signed_one_is_not() {
    let signer = Signer::new();
    let mut bench = Bench::new().await.on(&["linux/amd64"]);
    let arm64 = bench.double.image("b", "arm64");
    let index = bench.double.index("1", &[("linux/arm64", &arm64)]);
    bench.double.attach(&arm64, BUNDLE, &signer.bundle(&arm64));
    let refusal = bench.refused(&index, &signed_by(&signer)).await;
    assert_eq!(refusal.reason, RefusalReason::NoPlatform);
    assert!(refusal.next_step.contains("linux/amd64"), "{refusal:?}");
    bench.double.attach(&index, BUNDLE, &signer.bundle(&index));
    bench.forget();
    bench.proven(&index, &signed_by(&signer)).await;
}

/// containerd reads each of these names as that of the node, so the node runs what stands beside it.
#[tokio::test]
async fn a_child_under_another_name_of_a_platform_is_one_that_can_run() {
    let signer = Signer::new();
    let mut bench = Bench::new().await;
    let (evil, good) = (bench.double.image("a", "evil"), bench.double.image("b", "good"));
    bench.double.attach(&good, BUNDLE, &signer.bundle(&good));
    for (written, node) in [
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/X86_64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("l\u{130}nux/amd64", "linux/amd64"),
        ("linux/i386", "linux/amd64"),
        ("linux/i386", "linux/386"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/armhf", "linux/arm"),
        ("linux/armel", "linux/arm64"),
        ("macos/arm64", "darwin/arm64"),
        ("/amd64", "linux/amd64"),
        ("linux/", "linux/amd64"),
        ("/", "linux/amd64"),
    ] {
        bench = bench.on(&[node, "linux/s390x"]);
        let index = bench.double.index("1", &[(written, &evil), ("linux/s390x", &good)]);
        let refusal = bench.refused(&index, &signed_by(&signer)).await;
        assert_eq!(refusal.reason, RefusalReason::NoSignature, "{written} on {node}: {refusal:?}");
        assert!(refusal.found.contains(written), "{written} on {node}: {refusal:?}");
    }
    for (written, node) in
        [("linux/riscv64", "linux/amd64"), ("windows/x86_64", "linux/amd64"), ("linux/amd64", "linux/386")]
    {
        bench = bench.on(&[node, "linux/s390x"]);
        let index = bench.double.index("1", &[(written, &evil), ("linux/s390x", &good)]);
        bench.proven(&index, &signed_by(&signer)).await;
    }
}
