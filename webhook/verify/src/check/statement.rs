//! What a signed payload says, and whether it is about the image.

use serde::Deserialize;
use sigstore_types::Subject;
use zastava_crds::digest::Sha256Digest;

use super::Rejected;
use crate::provenance;

/// The predicate of a signature as cosign 3 writes it.
pub(crate) const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const SIMPLE_SIGNING: &str = "cosign container image signature";
// The bounds that sigstore-go took after CVE-2024-45395.
const MAX_SUBJECTS: usize = 1024;
const MAX_SUBJECT_DIGESTS: usize = 32;

/// What is asked of a signed statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    /// cosign's signature.
    Signature,
    /// A bill of materials in any form that is read.
    Sbom,
    /// Exactly this predicate type.
    Predicate(&'a str),
    /// A provenance of a version that is read.
    Provenance,
}

impl Wanted<'_> {
    pub(crate) fn accepts(self, predicate_type: &str) -> bool {
        match self {
            Self::Signature => predicate_type == SIGN_PREDICATE,
            Self::Sbom => is_sbom(predicate_type),
            Self::Predicate(exact) => predicate_type == exact,
            Self::Provenance => provenance::is_provenance(predicate_type),
        }
    }
}

/// Predicate types of bills of materials: as cosign and other attestors write them, with or without a version.
fn is_sbom(predicate_type: &str) -> bool {
    ["https://cyclonedx.org/bom", "https://spdx.dev/Document"]
        .iter()
        .filter_map(|known| predicate_type.strip_prefix(known))
        .any(|rest| rest.is_empty() || rest.starts_with("/v"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    type_: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    type_: String,
    image: SignedImage,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SignedImage {
    docker_manifest_digest: String,
}

/// The predicate type of a statement whose subject is `digest`.
pub(super) fn about(payload_type: &str, payload: &[u8], digest: &Sha256Digest) -> Result<String, Rejected> {
    let statement = read(payload_type, payload)?;
    if names(&statement, digest) { Ok(statement.predicate_type) } else { Err(Rejected::OtherImage) }
}

/// Whether a signed statement is of the type that is asked, and about the image.
pub(super) fn statement(
    payload_type: &str,
    payload: &[u8],
    wanted: Wanted<'_>,
    image: &Sha256Digest,
) -> Result<(), Rejected> {
    let statement = read(payload_type, payload)?;
    if !wanted.accepts(&statement.predicate_type) {
        return Err(Rejected::OtherPredicate);
    }
    if names(&statement, image) { Ok(()) } else { Err(Rejected::OtherImage) }
}

/// Whether a signed payload of cosign's legacy layout is about the image.
pub(super) fn simple_signing(payload: &[u8], image: &Sha256Digest) -> Result<(), Rejected> {
    let document: SimpleSigning = serde_json::from_slice(payload).map_err(|_| Rejected::Malformed)?;
    if document.critical.type_ != SIMPLE_SIGNING {
        return Err(Rejected::OtherPredicate);
    }
    if document.critical.image.docker_manifest_digest != image.as_str() {
        return Err(Rejected::OtherImage);
    }
    Ok(())
}

fn read(payload_type: &str, payload: &[u8]) -> Result<Statement, Rejected> {
    if payload_type != IN_TOTO {
        return Err(Rejected::OtherPredicate);
    }
    let statement: Statement = serde_json::from_slice(payload).map_err(|_| Rejected::Malformed)?;
    if !STATEMENTS.contains(&statement.type_.as_str()) {
        return Err(Rejected::Malformed);
    }
    if statement.subject.len() > MAX_SUBJECTS || statement.subject.iter().any(|s| digests(s) > MAX_SUBJECT_DIGESTS) {
        return Err(Rejected::TooLarge);
    }
    Ok(statement)
}

fn names(statement: &Statement, digest: &Sha256Digest) -> bool {
    let names = |subject: &Subject| subject.digest.sha256.as_ref().is_some_and(|hash| hash.to_hex() == digest.hex());
    statement.subject.iter().any(names)
}

fn digests(subject: &Subject) -> usize {
    let digest = &subject.digest;
    usize::from(digest.sha256.is_some()) + usize::from(digest.sha512.is_some()) + digest.other.len()
}
