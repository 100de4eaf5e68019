//! Bundles that others made, about files: see `tests/fixtures/bundles/README.md`.

use std::sync::Arc;

use sigstore_trust_root::SIGSTORE_STAGING_TRUSTED_ROOT;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    blob::{Blob, BlobError, VerifiedBlob, verify},
    requirement::{Identity, PublicKey, ResolvedAuthority, SignatureRequirement, Subject, TrustRoot},
};

const COSIGN: &[u8] = include_bytes!("../fixtures/bundles/cosign-v3-blob.sigstore.json");
const COSIGN_FILE: &[u8] = include_bytes!("../fixtures/bundles/cosign-v3-blob.txt");
const CONDA: &[u8] = include_bytes!("../fixtures/bundles/conda-attestation.sigstore.json");
const CONDA_SUBJECT: &str = "54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
const REKOR_V2: &[u8] = include_bytes!("../fixtures/bundles/rekor-v2-dsse.sigstore.json");
const REKOR_V2_SUBJECT: &str = "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf";
const KEYED: &[u8] = include_bytes!("../fixtures/bundles/key-logged.sigstore.json");
const KEYED_FILE: &[u8] = include_bytes!("../fixtures/bundles/key-logged.txt");
const KEYED_KEY: &str = include_str!("../fixtures/bundles/key-logged.pub");
const GITHUB: &str = "https://github.com/login/oauth";
const ACTIONS: &str = "https://token.actions.githubusercontent.com";

fn exact(subject: &str) -> Subject {
    Subject::Exact(subject.to_owned())
}

fn glob(subject: &str) -> Subject {
    Subject::Glob(subject.to_owned())
}

fn public_good() -> Arc<TrustRoot> {
    TrustRoot::public_good().unwrap()
}

fn staging() -> Arc<TrustRoot> {
    Arc::new(TrustRoot::from_json(SIGSTORE_STAGING_TRUSTED_ROOT).unwrap())
}

fn by(issuer: &str, subject: Subject, root: Arc<TrustRoot>) -> SignatureRequirement {
    let identity = Identity::new(issuer, subject).unwrap();
    let authority = ResolvedAuthority::keyless(identity, root, "authority").unwrap();
    SignatureRequirement::new("release", vec![authority], 1).unwrap()
}

fn digest(hex: &str) -> Sha256Digest {
    format!("sha256:{hex}").parse().unwrap()
}

fn class(result: Result<VerifiedBlob, BlobError>) -> &'static str {
    result.unwrap_err().category()
}

#[test]
fn a_file_that_cosign_signed_on_the_public_good_instance() {
    let requirement = by(GITHUB, exact("w.vollprecht@gmail.com"), public_good());
    for blob in [Blob::Bytes(COSIGN_FILE), Blob::Digest(&Sha256Digest::of(COSIGN_FILE))] {
        let verified = verify(COSIGN, blob, &requirement).unwrap();
        assert_eq!((verified.signed_by.len(), verified.predicate_type), (1, None));
    }
    assert_eq!(class(verify(COSIGN, Blob::Bytes(b"another file"), &requirement)), "other_image");
    let error = verify(COSIGN, Blob::Bytes(COSIGN_FILE), &by(ACTIONS, glob("**gmail.com"), public_good())).unwrap_err();
    assert_eq!(error.category(), "other_identity");
    assert!(
        error.to_string().contains("signed by https://github.com/login/oauth as w.vollprecht@gmail.com"),
        "{error}"
    );
    assert_eq!(
        class(verify(COSIGN, Blob::Bytes(COSIGN_FILE), &by(GITHUB, exact("w.vollprecht@gmail.com"), staging()))),
        "bad_timestamp"
    );
}

#[test]
fn a_workflows_attestation_by_a_glob() {
    let workflows = "https://github.com/prefix-dev/*/.github/workflows/*@refs/heads/main";
    let subject = digest(CONDA_SUBJECT);
    let verified = verify(CONDA, Blob::Digest(&subject), &by(ACTIONS, glob(workflows), public_good())).unwrap();
    assert_eq!(
        verified.predicate_type.as_deref(),
        Some("https://schemas.conda.org/attestations-publish-1.schema.json")
    );
    assert!(verified.signed_by[0].contains("prefix-dev/sigstore-example"), "{verified:?}");
    let other = Sha256Digest::of(b"other");
    assert_eq!(class(verify(CONDA, Blob::Digest(&other), &by(ACTIONS, glob(workflows), public_good()))), "other_image");
    let elsewhere = "https://github.com/prefix-dev/*/.github/workflows/*@refs/tags/*";
    assert_eq!(
        class(verify(CONDA, Blob::Digest(&subject), &by(ACTIONS, glob(elsewhere), public_good()))),
        "other_identity"
    );
}

#[test]
fn a_workflows_provenance_in_rekor_v2_with_a_timestamp() {
    let subject = digest(REKOR_V2_SUBJECT);
    let workflow = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/\
                    extremely-dangerous-oidc-beacon.yml@refs/heads/main";
    let verified = verify(REKOR_V2, Blob::Digest(&subject), &by(ACTIONS, exact(workflow), staging())).unwrap();
    assert_eq!(verified.predicate_type.as_deref(), Some("https://slsa.dev/provenance/v1"));
    // Without its timestamp nothing says when it was made: a Rekor v2 entry has no time.
    let mut bundle: serde_json::Value = serde_json::from_slice(REKOR_V2).unwrap();
    bundle["verificationMaterial"]["timestampVerificationData"] = serde_json::json!({});
    let timeless =
        verify(bundle.to_string().as_bytes(), Blob::Digest(&subject), &by(ACTIONS, exact(workflow), staging()));
    assert_eq!(class(timeless), "no_signing_time");
}

#[test]
fn a_file_under_a_key_with_and_without_its_log() {
    let key = || PublicKey::from_pem(KEYED_KEY).unwrap();
    let require = |authority| SignatureRequirement::new("release", vec![authority], 1).unwrap();
    let logged = require(ResolvedAuthority::logged_key(key(), public_good(), "authority").unwrap());
    let elsewhere = require(ResolvedAuthority::logged_key(key(), staging(), "authority").unwrap());
    let keyed = require(ResolvedAuthority::key(key(), "authority"));
    for requirement in [&logged, &keyed] {
        verify(KEYED, Blob::Bytes(KEYED_FILE), requirement).unwrap();
        verify(KEYED, Blob::Digest(&Sha256Digest::of(KEYED_FILE)), requirement).unwrap();
        assert!(verify(KEYED, Blob::Bytes(b"another file"), requirement).is_err());
    }
    assert_eq!(class(verify(KEYED, Blob::Bytes(KEYED_FILE), &elsewhere)), "bad_log_entry");
    let keyless = by(GITHUB, exact("w.vollprecht@gmail.com"), staging());
    assert_eq!(class(verify(KEYED, Blob::Bytes(KEYED_FILE), &keyless)), "no_certificate");
    assert_eq!(class(verify(COSIGN, Blob::Bytes(COSIGN_FILE), &logged)), "other_key");
}

/// The log entry of another signature, recorded.
pub fn cve_2022_36056() {
    let bundle = include_bytes!("../fixtures/bundles/cve-2022-36056.sigstore.json");
    let json: serde_json::Value = serde_json::from_slice(bundle).unwrap();
    let said = json["messageSignature"]["messageDigest"]["digest"].as_str().unwrap();
    let said = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, said).unwrap();
    let subject = digest(&hex::encode(said));
    let refused = verify(bundle, Blob::Digest(&subject), &by(GITHUB, exact("william@yossarian.net"), staging()));
    assert!(refused.is_err());
}

#[test]
fn nothing_that_says_when_or_that_it_was_logged() {
    let timeless = include_bytes!("../fixtures/bundles/no-signed-time.sigstore.json");
    let unlogged = include_bytes!("../fixtures/bundles/no-log-entry.sigstore.json");
    let subject = Sha256Digest::of(b"whatever");
    let class_of =
        |bundle: &[u8]| class(verify(bundle, Blob::Digest(&subject), &by(GITHUB, exact("a@b"), public_good())));
    assert_eq!(class_of(timeless), "no_signing_time");
    assert_eq!(class_of(unlogged), "no_log_entry");
}
