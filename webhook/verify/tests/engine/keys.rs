//! Kinds of keys, and how many of them must have signed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    blob::{Blob, BlobError, VerifiedBlob, verify},
    requirement::{Inline, PolicyRequirements, PublicKey, RequirementError, ResolvedAuthority, SignatureRequirement},
    verdict::RefusalReason,
};

use super::{
    bench::{Bench, policy, release, signed_by},
    signer::{BUNDLE, Signer},
};

/// A P-384 key, and its signatures over `a file` by openssl: signers choose the hash.
const P384: &str = "-----BEGIN PUBLIC KEY-----\n\
    MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEUgrtwkz36u+Brkk+gn9MydrdY1AQx0yb\n\
    DUd0qvyBwd7jbn3OPIzTzV8PAAdrES4YTCI8mx+oIru54uyHqychrIJdgCwTAUMO\n\
    gMDwO+H/Hm+Tc462boknm7k1ZVeYeo67\n\
    -----END PUBLIC KEY-----";
const P384_SHA256: &str = "MGUCMQDWEImgKwVIFUoGWb2r/DmUPZTXOPf0yKrcUzJn44hCvPiqKANBqpf4kQPlt2oYmw\
    wCMC5kJqsrUXBml2empKOXBjoPU6kpdQrLzDG5Odj6g/hZgq7V9Ifwj3Ba8SCj/bYeiA==";
const P384_SHA384: &str = "MGUCMQC6G6ZAwmvHO6tZvZmQwpUblaUDeSaIhnFsp0VIN8G+wbucenPQ7NpQYNw05suB3q\
    wCMCt9VTEjBEs9HiiyCy5jiQ/1AjI7tCZhuzEtC+2dZyJ2nmeJhYHqwjfXV+tlOm6sEQ==";
const P384_SHA512: &str = "MGYCMQDyo9ty08Vkz4DJV5GZj60RxmiqLayeH8eoLzCdZF+P/rgV1U1jrRsfTq7mo5Clwc\
    oCMQCneUdRcrI4LJDMPoO9SOiHQF1DWNDtv3SbsETeL5fNxK5jFFKRp9tq/vg2McrZZv0=";

#[tokio::test]
async fn every_kind_of_key_signs_bundles_and_legacy_payloads() {
    let bench = Bench::new().await;
    for (kind, signer) in Signer::of_every_kind() {
        let bundled = bench.double.image("1", &format!("{kind} bundle"));
        bench.double.attach(&bundled, BUNDLE, &signer.bundle(&bundled));
        let legacy = bench.double.image("2", &format!("{kind} legacy"));
        bench.double.sign_legacy(&legacy, &[signer.simple_signing(&legacy)]);
        for image in [bundled, legacy] {
            let proof = bench.proven(&image, &signed_by(&signer)).await;
            assert_eq!(proof.digest().digest, image, "{kind}");
            let [evidence] = proof.evidence() else { panic!("{kind}: {proof:?}") };
            assert_eq!(evidence.requirement, "signatures[release]");
            assert!(evidence.signed_by[0].contains("key "), "{evidence:?}");
        }
    }
}

#[tokio::test]
async fn a_threshold_counts_distinct_keys() {
    let (one, two) = (Signer::new(), Signer::new());
    let mut bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let both = policy(json!({"signatures": release(&[&one, &two], 2)}));
    bench.double.attach(&image, BUNDLE, &one.bundle(&image));
    bench.double.attach(&image, BUNDLE, &one.bundle(&image));
    bench.double.sign_legacy(&image, &[one.simple_signing(&image)]);
    let refusal = bench.refused(&image, &both).await;
    assert_eq!(refusal.reason, RefusalReason::BelowThreshold);
    assert!(refusal.found.contains("1 of the 2"), "{refusal:?}");
    bench.double.sign_legacy(&image, &[one.simple_signing(&image), two.simple_signing(&image)]);
    bench.forget();
    assert_eq!(bench.proven(&image, &both).await.evidence()[0].signed_by.len(), 2);
}

#[tokio::test]
async fn each_entry_must_be_satisfied_by_its_own_authorities() {
    let (one, two) = (Signer::new(), Signer::new());
    let bench = Bench::new().await;
    let image = bench.double.image("1", "app");
    let entry = |name: &str, signer: &Signer| json!({"name": name, "authorities": [{"key": {"pem": signer.pem()}}]});
    let policy = policy(json!({"signatures": [entry("build", &one), entry("release", &two)]}));
    bench.double.attach(&image, BUNDLE, &one.bundle(&image));
    assert_eq!(bench.refused(&image, &policy).await.requirement, "signatures[release]");
}

#[test]
fn what_can_not_be_verified_with_is_refused_as_a_key_or_a_requirement() {
    for bad in [
        "",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        // P-521.
        "-----BEGIN PUBLIC KEY-----\nMIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PUBLIC KEY-----",
    ] {
        assert!(PublicKey::from_pem(bad).is_err(), "{bad}");
    }
    let build = |spec: serde_json::Value| {
        let spec = serde_json::from_value(spec).unwrap();
        PolicyRequirements::from_spec("p", "u", 1, &spec, &Inline)
    };
    let keyed = json!({"key": {"pem": Signer::new().pem()}});
    let twice = json!({"signatures": [{"name": "release", "authorities": [keyed, keyed], "threshold": 2}]});
    assert!(
        matches!(build(twice), Err(RequirementError::Threshold { keys: 1, .. })),
        "one key in two entries is one key"
    );
    let nobody = json!({"sbom": {"required": true, "signedBy": "nobody"}, "signatures": [{"name": "release", "authorities": [keyed]}]});
    assert!(matches!(build(nobody), Err(RequirementError::SignedBy { .. })));
    assert!(matches!(build(json!({})), Ok(None)), "a policy that asks nothing proves nothing");
}

fn file(key: &str, signature: &str, blob: Blob<'_>) -> Result<VerifiedBlob, BlobError> {
    let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}},
        "messageSignature": {"signature": signature}});
    let authority = ResolvedAuthority::key(PublicKey::from_pem(key).unwrap(), "key");
    let requirement = SignatureRequirement::new("release", vec![authority], 1).unwrap();
    verify(bundle.to_string().as_bytes(), blob, &requirement)
}

#[test]
fn a_p384_key_signs_with_the_hash_of_its_curve_and_with_cosigns() {
    let digest = Sha256Digest::of(b"a file");
    for signature in [P384_SHA256, P384_SHA384] {
        file(P384, signature, Blob::Bytes(b"a file")).unwrap();
        assert_eq!(file(P384, signature, Blob::Bytes(b"another")).unwrap_err().category(), "other_key");
    }
    file(P384, P384_SHA256, Blob::Digest(&digest)).unwrap();
    // From a SHA-256 digest nobody can tell what was signed by SHA-384, and SHA-512 goes with neither.
    assert!(file(P384, P384_SHA384, Blob::Digest(&digest)).is_err());
    assert!(file(P384, P384_SHA512, Blob::Bytes(b"a file")).is_err());
}

#[test]
fn an_ed25519_key_signs_the_bytes_themselves() {
    let signers = Signer::of_every_kind();
    for (kind, signer) in &signers {
        let signature = STANDARD.encode(signer.sign(b"a file"));
        let verified = file(&signer.pem(), &signature, Blob::Bytes(b"a file")).unwrap();
        assert_eq!((verified.digest, verified.predicate_type), (Sha256Digest::of(b"a file"), None), "{kind}");
        let by_digest = file(&signer.pem(), &signature, Blob::Digest(&Sha256Digest::of(b"a file")));
        match *kind {
            "Ed25519" => assert_eq!(by_digest.unwrap_err().category(), "unsupported"),
            "P-384" => assert_eq!(by_digest.unwrap_err().category(), "other_key"),
            _ => assert!(by_digest.is_ok(), "{kind}: {by_digest:?}"),
        }
    }
}
