//! What a real cosign 3.1.3 wrote (`cosign.json`, recorded from two registries), offline and with a key of its own:
//! `cosign sign` and `cosign attest --type cyclonedx`, with `--tlog-upload=false --use-signing-config=false`, and for the
//! legacy tags with `--new-bundle-format=false` besides.

use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    sbom::{Judgement, SbomVerdict},
    verdict::RefusalReason,
};

use super::{
    bench::{Bench, policy},
    double::Referrers,
    signer::Signer,
};

fn recorded() -> Value {
    serde_json::from_str(include_str!("cosign.json")).unwrap()
}

#[tokio::test]
async fn its_signatures_and_attestations_count_wherever_it_put_them() {
    let recorded = recorded();
    let image: Sha256Digest = recorded["image"].as_str().unwrap().parse().unwrap();
    for (place, mode) in [
        ("byReferrers", Referrers::Listed),
        ("byFallbackTag", Referrers::Absent),
        ("byFallbackTag", Referrers::Empty),
        ("byLegacyTags", Referrers::Absent),
        ("byLegacyTags", Referrers::Listed),
    ] {
        let bench = Bench::new().await;
        bench.double.load(&recorded[place]);
        bench.double.referrers(mode);
        assert_eq!(bench.resolve(":1").await.unwrap().digest(), &image);
        let asked = |pem: &Value| {
            policy(json!({"signatures": [{"name": "release", "authorities": [{"key": {"pem": pem}}]}],
                "sbom": {"required": true, "formats": ["CycloneDX"]}}))
        };
        let proof = bench.proven(&image, &asked(&recorded["key"])).await;
        let proven: Vec<_> = proof.evidence().iter().map(|evidence| evidence.requirement.as_str()).collect();
        assert_eq!(proven, ["signatures[release]", "sbom"], "{place} {mode:?}");
        let SbomVerdict::Found(found) = bench.sbom(&image, &asked(&recorded["key"])).await else {
            panic!("{place} {mode:?}: no bill of materials")
        };
        let judgement = found.sbom().judge("/bin/app", &Sha256Digest::of(b"app\n"));
        assert_eq!(judgement, Judgement::Known { component: Some("pkg:generic/app@1".to_owned()), listed_at: None });
        // Under another key none of it does.
        let refusal = bench.refused(&image, &asked(&Signer::new().pem().into())).await;
        assert_eq!(refusal.reason, RefusalReason::NoMatchingSignature, "{place} {mode:?}: {refusal:?}");
    }
}
