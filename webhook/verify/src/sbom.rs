//! Bills of materials: what files an image's supplier says it has.

use std::sync::Arc;

use zastava_crds::{
    digest::{ImageDigest, Sha256Digest},
    policy::SbomFormat,
};

use crate::verdict::{Refusal, UnknownVerdict};

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

/// A bill of materials whose signature and subject were verified. Only the verifier makes one.
#[derive(Debug)]
pub struct VerifiedSbom {
    sbom: Sbom,
    subject: ImageDigest,
    signed_by: Vec<String>,
}

impl VerifiedSbom {
    /// Its content.
    pub fn sbom(&self) -> &Sbom {
        &self.sbom
    }

    /// What it is attached to: the image, or a platform's child of its index.
    pub fn subject(&self) -> &ImageDigest {
        &self.subject
    }

    /// Who signed it, by the labels of the authorities.
    pub fn signed_by(&self) -> &[String] {
        &self.signed_by
    }
}

/// The files of a bill of materials.
#[derive(Debug)]
pub struct Sbom {
    format: SbomFormat,
    files: usize,
}

/// What a bill of materials says about a file that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Exactly this content is listed.
    Known {
        /// purl or name of the component that owns it.
        component: Option<String>,
        /// Where it is listed, if elsewhere.
        listed_at: Option<String>,
    },
    /// The path is listed with other content.
    Modified {
        /// purl or name of the component that owns it.
        component: Option<String>,
        /// The content it should have.
        expected: Sha256Digest,
    },
    /// Neither path nor content is listed.
    Unknown,
    /// The bill of materials lists no files with hashes: it can't speak about any.
    NoFiles,
}

impl Sbom {
    /// Its format.
    pub fn format(&self) -> SbomFormat {
        self.format
    }

    /// How many files with a SHA-256 it lists.
    pub fn files(&self) -> usize {
        self.files
    }

    /// What it says about a file at `path` (leading slash or not) with this content.
    pub fn judge(&self, path: &str, sha256: &Sha256Digest) -> Judgement {
        let _ = (path, sha256);
        Judgement::NoFiles
    }
}
