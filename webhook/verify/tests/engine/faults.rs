//! Faults at every step: an ordinary error must not drop out of the verdict (policy-controller, validator.go:1266).
//!
//! A verification that succeeds is run over and over; each time another one of its requests fails, in another way. What
//! comes of it is no proof, or a proof of all that was asked, by what the registry had besides.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    answer::UnknownCause, requirement::PolicyRequirements, verdict::Verdict, verifier::VerifierSettings,
};

use super::{
    bench::{Bench, policy, release, verifier_with},
    double::Referrers,
    signer::{BUNDLE, CYCLONEDX, Signer, cyclonedx},
};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const REQUIREMENTS: [&str; 3] = ["signatures[release]", "sbom", "attestations[https://slsa.dev/provenance/v1]"];

type Fault = (&'static str, fn() -> Response);

const FAULTS: [Fault; 7] = [
    ("500", || StatusCode::INTERNAL_SERVER_ERROR.into_response()),
    ("401", || StatusCode::UNAUTHORIZED.into_response()),
    ("403", || StatusCode::FORBIDDEN.into_response()),
    ("404", || StatusCode::NOT_FOUND.into_response()),
    ("empty", || StatusCode::OK.into_response()),
    ("garbage", || "{\"schemaVersion\": 2, \"manifests\": [".into_response()),
    ("another's", || "{\"mediaType\":\"x\",\"schemaVersion\":2,\"layers\":[],\"manifests\":[]}".into_response()),
];

/// All that a policy may ask, and where it is.
struct Case {
    name: &'static str,
    bench: Bench,
    image: Sha256Digest,
    policy: Arc<PolicyRequirements>,
}

async fn cases(signer: &Signer) -> Vec<Case> {
    let asked = || {
        policy(json!({"signatures": release(&[signer], 1), "sbom": {"required": true},
            "attestations": [{"predicateType": PROVENANCE, "conditions": ["predicate.builder == 'b'"]}]}))
    };
    let built = json!({"builder": "b"});
    let bom = cyclonedx("1.6", "2026-01-01T00:00:00Z", &[]);
    let referred = |bench: &Bench, image: &Sha256Digest| {
        bench.double.attach(image, BUNDLE, &signer.bundle(image));
        bench.double.attach(image, BUNDLE, &signer.attestation(image, CYCLONEDX, &bom));
        bench.double.attach(image, BUNDLE, &signer.attestation(image, PROVENANCE, &built));
    };
    let mut cases = Vec::new();
    for name in ["by the API", "by pages", "by the fallback tag", "by legacy tags", "by the children"] {
        let bench = Bench::new().await.on(&["linux/amd64", "linux/arm64"]);
        let image = bench.double.image("1", name);
        let mut subject = image.clone();
        match name {
            "by the API" => referred(&bench, &image),
            "by pages" => {
                referred(&bench, &image);
                bench.double.referrers(Referrers::Paged);
            }
            "by the fallback tag" => {
                let documents = [
                    signer.bundle(&image),
                    signer.attestation(&image, CYCLONEDX, &bom),
                    signer.attestation(&image, PROVENANCE, &built),
                ];
                bench.double.attach_by_tag(&image, BUNDLE, &documents.iter().collect::<Vec<_>>(), BUNDLE);
                bench.double.referrers(Referrers::Absent);
            }
            "by legacy tags" => {
                bench.double.sign_legacy(&image, &[signer.simple_signing(&image)]);
                let envelopes = [
                    (signer.envelope(&image, CYCLONEDX, &bom), CYCLONEDX),
                    (signer.envelope(&image, PROVENANCE, &built), PROVENANCE),
                ];
                bench.double.attest_legacy(&image, &envelopes);
            }
            _ => {
                let other = bench.double.image("2", "other");
                subject = bench.double.index("index", &[("linux/amd64", &image), ("linux/arm64", &other)]);
                for child in [&image, &other] {
                    referred(&bench, child);
                }
            }
        }
        cases.push(Case { name, bench, image: subject, policy: asked() });
    }
    cases
}

/// Fails the request of this number, and with `after` all that follow.
fn fail(bench: &Bench, number: usize, after: bool, fault: fn() -> Response) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    bench.double.hook(move |_, _| {
        let this = counted.fetch_add(1, Ordering::SeqCst);
        (this == number || (after && this > number)).then(fault)
    });
    seen
}

#[tokio::test]
async fn no_fault_at_any_step_is_a_pass() {
    let signer = Signer::new();
    for Case { name, mut bench, image, policy } in cases(&signer).await {
        let seen = fail(&bench, usize::MAX, false, || StatusCode::OK.into_response());
        bench.proven(&image, &policy).await;
        let requests = seen.load(Ordering::SeqCst);
        assert!(requests >= 6, "{name}: {requests} requests");
        let (mut proven, mut refused, mut unknown) = (0, 0, 0);
        for (fault, answer) in FAULTS {
            for number in 0..requests {
                for after in [false, true] {
                    fail(&bench, number, after, answer);
                    bench.forget();
                    let at = format!("{name}: {fault} at request {number}, after: {after}");
                    match bench.verify(&image, &policy).await {
                        // A repeated request or another place had it: then all of it was shown.
                        Verdict::Proven(proof) => {
                            for asked in REQUIREMENTS {
                                let shown = proof
                                    .evidence()
                                    .iter()
                                    .any(|evidence| evidence.requirement == asked && !evidence.signed_by.is_empty());
                                assert!(shown, "{at}: {asked} was not shown: {proof:?}");
                            }
                            assert!(!(after && number == 0), "{at}: proven by a registry that answered nothing");
                            proven += 1;
                        }
                        // "There is none" is an answer to a question by tag or of the API; never to one by digest.
                        Verdict::Refused(refusal) => {
                            assert!(
                                matches!(fault, "404" | "empty" | "garbage" | "another's"),
                                "{at}: an error reads as a definite answer: {refusal:?}"
                            );
                            refused += 1;
                        }
                        Verdict::Unknown(_) => unknown += 1,
                    }
                }
            }
        }
        assert!(unknown > refused && unknown > 0, "{name}: {proven} proven, {refused} refused, {unknown} unknown");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_step_is_no_pass() {
    let signer = Signer::new();
    // Each broken connection is tried once more after a pause: two cases are enough to wait for.
    let cases = cases(&signer).await.into_iter().filter(|case| matches!(case.name, "by the API" | "by legacy tags"));
    for Case { name, mut bench, image, policy } in cases {
        let seen = fail(&bench, usize::MAX, false, || StatusCode::OK.into_response());
        bench.proven(&image, &policy).await;
        for number in 0..seen.load(Ordering::SeqCst) {
            // From here on the body breaks off: twice, so that asking once more does not help.
            fail(&bench, number, true, || {
                let broken = futures::stream::iter([
                    Ok(axum::body::Bytes::from_static(b"{\"schemaVersion\"")),
                    Err(std::io::Error::other("broken")),
                ]);
                axum::body::Body::from_stream(broken).into_response()
            });
            bench.forget();
            match bench.verify(&image, &policy).await {
                Verdict::Unknown(_) => {}
                other => panic!("{name}: broken from request {number} on: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_registry_that_hangs_at_any_step_is_no_pass() {
    let signer = Signer::new();
    let cases = cases(&signer).await.into_iter().filter(|case| matches!(case.name, "by the API" | "by legacy tags"));
    for Case { name, mut bench, image, policy } in cases {
        let seen = fail(&bench, usize::MAX, false, || StatusCode::OK.into_response());
        bench.proven(&image, &policy).await;
        for number in 0..seen.load(Ordering::SeqCst) {
            fail(&bench, number, true, || {
                let never = futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
                axum::body::Body::from_stream(never).into_response()
            });
            let soon = VerifierSettings { work_timeout: Duration::from_millis(300), ..VerifierSettings::default() };
            bench.verifier = verifier_with(&[&bench.double.host], soon);
            match bench.verify(&image, &policy).await {
                Verdict::Unknown(unknown) => assert_eq!(unknown.cause, UnknownCause::Deadline, "{unknown:?}"),
                other => panic!("{name}: hanging from request {number} on: {other:?}"),
            }
        }
    }
}
