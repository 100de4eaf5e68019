//! Bills of materials: what files an image's supplier says it has.
//!
//! Read tolerantly, as far as they are used; a version that can't be read is said to be unsupported, never absent.

mod cyclonedx;
mod files;
mod spdx;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use zastava_crds::{
    digest::{ImageDigest, Sha256Digest},
    policy::SbomFormat,
};

use self::files::Files;
pub use self::files::Judgement;
use crate::{
    check::Signed,
    verdict::{Refusal, UnknownVerdict},
};

/// What is known of an image's bill of materials under named authorities.
#[derive(Clone, Debug)]
pub enum SbomVerdict {
    /// Attached, signed by the authorities, its subject is this image.
    Found(Arc<VerifiedSbom>),
    /// The registry answered, and there is none that counts.
    Refused(Refusal),
    /// Nothing can be said.
    Unknown(UnknownVerdict),
}

/// Bills of materials whose signature and subject were verified. Only the verifier makes one.
#[derive(Debug)]
pub struct VerifiedSbom {
    sbom: Sbom,
    subjects: Vec<ImageDigest>,
    signed_by: Vec<String>,
}

impl VerifiedSbom {
    /// Its content.
    pub fn sbom(&self) -> &Sbom {
        &self.sbom
    }

    /// What it is attached to: the image, or each platform's child of its index.
    pub fn subjects(&self) -> &[ImageDigest] {
        &self.subjects
    }

    /// Who signed it, by the labels of the authorities.
    pub fn signed_by(&self) -> &[String] {
        &self.signed_by
    }

    /// From documents that were signed, one a subject.
    pub(crate) fn of(documents: Vec<(ImageDigest, Vec<String>, Header, Signed)>) -> Result<Self, String> {
        let mut files = Files::default();
        let (mut subjects, mut signers, mut formats) = (Vec::new(), Vec::new(), Vec::new());
        for (subject, signed_by, header, signed) in documents {
            header.read_files(&signed, &mut files)?;
            subjects.push(subject);
            signers.extend(signed_by);
            formats.push(header.format);
        }
        signers.sort();
        signers.dedup();
        let format = formats.first().copied().ok_or("no document")?;
        Ok(Self { sbom: Sbom { format, files }, subjects, signed_by: signers })
    }
}

/// The files of a bill of materials.
#[derive(Debug)]
pub struct Sbom {
    format: SbomFormat,
    files: Files,
}

impl Sbom {
    /// Its format.
    pub fn format(&self) -> SbomFormat {
        self.format
    }

    /// How many files with a SHA-256 it lists.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// What it says about a file at `path` (leading slash or not) with this content.
    pub fn judge(&self, path: &str, sha256: &Sha256Digest) -> Judgement {
        self.files.judge(path, sha256)
    }
}

/// The head of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) format: SbomFormat,
    pub(crate) version: String,
    /// When it was made, as it says itself.
    pub(crate) created: Option<Timestamp>,
}

#[derive(Deserialize)]
struct StatementOf<P> {
    predicate: P,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    bom_format: Option<String>,
    spec_version: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
    spdx_version: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    creation_info: CreationInfo,
}

#[derive(Default, Deserialize)]
struct Metadata {
    timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
struct CreationInfo {
    created: Option<String>,
}

impl Header {
    /// From the payload of a signed statement; the error says what is not supported.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, String> {
        let head: Head =
            predicate(payload).map_err(|_| "its predicate is no JSON document of CycloneDX or SPDX".to_owned())?;
        let time = |text: Option<String>| text.and_then(|text| text.parse().ok());
        match (head.bom_format.as_deref(), head.spec_version, head.spdx_version) {
            (Some("CycloneDX"), Some(version), _) if matches!(version.as_str(), "1.4" | "1.5" | "1.6" | "1.7") => {
                Ok(Self { format: SbomFormat::CycloneDX, version, created: time(head.metadata.timestamp) })
            }
            (Some("CycloneDX"), version, _) => {
                Err(format!("CycloneDX {:.16} can't be read: 1.4 to 1.7 can", version.unwrap_or_default()))
            }
            (_, _, Some(version)) if matches!(version.as_str(), "SPDX-2.2" | "SPDX-2.3") => {
                Ok(Self { format: SbomFormat::SPDX, version, created: time(head.creation_info.created) })
            }
            (_, _, Some(version)) => Err(format!("{version:.16} can't be read: SPDX-2.2 and SPDX-2.3 can")),
            _ => Err("neither bomFormat CycloneDX nor an spdxVersion: this format can't be read".to_owned()),
        }
    }

    fn read_files(&self, signed: &Signed, files: &mut Files) -> Result<(), String> {
        let unreadable = |e: serde_json::Error| format!("{:?} {} can't be read: {e}", self.format, self.version);
        match self.format {
            SbomFormat::CycloneDX => predicate::<cyclonedx::Bom>(signed.payload()).map_err(unreadable)?.files(files),
            SbomFormat::SPDX => predicate::<spdx::Document>(signed.payload()).map_err(unreadable)?.files(files),
        }
    }
}

/// Some generators write null for what they do not know.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn predicate<P: DeserializeOwned>(payload: &[u8]) -> Result<P, serde_json::Error> {
    serde_json::from_slice::<StatementOf<P>>(payload).map(|statement| statement.predicate)
}
