//! `verify-blob`: any file under any Sigstore bundle.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use serde_json::json;
use zastava_crds::{
    digest::Sha256Digest,
    policy::{AdmissionSpec, Key, TrustRootRef},
};
use zastava_verify::{
    blob::{self, Blob, BlobError, MAX_BUNDLE, VerifiedBlob},
    requirement::{MAX_TRUST_ROOT, PolicyRequirements, RequirementError, TrustRoot, TrustStore},
};

use crate::{
    arguments::BlobArguments,
    bounded,
    ending::Ending,
    failure::Failure,
    output::{self, plain},
};

/// Bytes of a file at most; of a longer one the digest is enough.
const MAX_FILE: usize = 1024 * 1024 * 1024;
/// Bytes of a key at most.
const MAX_KEY: usize = 64 * 1024;

/// What can't be judged.
#[derive(Debug, thiserror::Error)]
pub enum BlobInputError {
    /// A file can't be read.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is longer than it may be.
    #[error("{}: more than {limit} bytes{hint}", file.display())]
    TooLarge {
        /// Which.
        file: PathBuf,
        /// How many are allowed.
        limit: usize,
        /// What to do.
        hint: &'static str,
    },
    /// It is no trust root.
    #[error("--trust-root: {}: {why}", file.display())]
    TrustRoot {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The signer can't be used.
    #[error(transparent)]
    Signer(#[from] RequirementError),
    /// Nobody is named.
    #[error("name who must have signed: --key, or --issuer with --subject or --subject-glob")]
    Nobody,
}

impl BlobInputError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "blob_unreadable",
            Self::TooLarge { .. } => "blob_size",
            Self::TrustRoot { .. } => "trust_root",
            Self::Signer(error) => error.category(),
            Self::Nobody => "blob_signer",
        }
    }
}

/// What is said about a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    blob: String,
    bundle: String,
    digest: Sha256Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signed_by: Vec<String>,
    verdict: &'static str,
}

/// The one trust root there can be.
struct Root(Option<Arc<TrustRoot>>);

impl TrustStore for Root {
    fn key(&self, key: &Key) -> Result<String, String> {
        key.pem.clone().ok_or_else(|| "names no key".to_owned())
    }

    fn trust_root(&self, _: &TrustRootRef) -> Result<Arc<TrustRoot>, String> {
        self.0.clone().ok_or_else(|| "no trust root is named: use --trust-root".to_owned())
    }
}

/// Verifies, and prints what came of it.
pub fn run(arguments: &BlobArguments, out: &mut Vec<u8>) -> Result<Ending, Failure> {
    let requirements = requirements(arguments)?;
    let signed_by = requirements.signatures().first().ok_or(BlobInputError::Nobody)?;
    let bundle = contents(&arguments.bundle, MAX_BUNDLE, "")?;
    let verdict = if let Ok(digest) = arguments.blob.parse::<Sha256Digest>() {
        let verdict = blob::verify(&bundle, Blob::Digest(&digest), signed_by);
        (digest, verdict)
    } else {
        let bytes = contents(Path::new(&arguments.blob), MAX_FILE, ": name its digest instead (sha256:…)")?;
        (Sha256Digest::of(&bytes), blob::verify(&bundle, Blob::Bytes(&bytes), signed_by))
    };
    let report = Report::of(arguments, verdict);
    output::print(out, arguments.output, &report, |out: &mut Vec<u8>| report.table(out))?;
    Ok(if report.verdict == "Satisfied" { Ending::Satisfied } else { Ending::Refused })
}

/// The signer, as a policy would name it.
fn requirements(arguments: &BlobArguments) -> Result<PolicyRequirements, BlobInputError> {
    let root = arguments.trust_root.as_ref().map(|_| json!({"name": "trust-root"}));
    let authority = match (&arguments.key, &arguments.issuer) {
        (Some(file), _) => {
            let pem = String::from_utf8_lossy(&contents(file, MAX_KEY, "")?).into_owned();
            let log = if arguments.require_log { "Require" } else { "Ignore" };
            json!({"key": {"pem": pem}, "transparencyLog": log, "trustRoot": root})
        }
        (None, Some(issuer)) => json!({"keyless": {
            "issuer": issuer,
            "subject": arguments.subject,
            "subjectGlob": arguments.subject_glob,
            "trustRoot": root,
        }}),
        (None, None) => return Err(BlobInputError::Nobody),
    };
    let spec = json!({"signatures": [{"name": "blob", "authorities": [authority]}]});
    let spec: AdmissionSpec = serde_json::from_value(spec).map_err(|_| BlobInputError::Nobody)?;
    let store = Root(arguments.trust_root.as_deref().map(trust_root).transpose()?);
    PolicyRequirements::from_spec("blob", "blob", 1, &spec, &store)?.ok_or(BlobInputError::Nobody)
}

fn trust_root(file: &Path) -> Result<Arc<TrustRoot>, BlobInputError> {
    let wrong = |why: String| BlobInputError::TrustRoot { file: file.to_owned(), why };
    let text = String::from_utf8(contents(file, MAX_TRUST_ROOT, "")?).map_err(|_| wrong("is not UTF-8".to_owned()))?;
    TrustRoot::from_json(&text).map(Arc::new).map_err(|error| wrong(error.to_string()))
}

fn contents(file: &Path, limit: usize, hint: &'static str) -> Result<Vec<u8>, BlobInputError> {
    let unreadable = |source| BlobInputError::Unreadable { file: file.to_owned(), source };
    let bytes = bounded::read(file, limit as u64).map_err(unreadable)?;
    bytes.ok_or_else(|| BlobInputError::TooLarge { file: file.to_owned(), limit, hint })
}

impl Report {
    fn of(arguments: &BlobArguments, (digest, verdict): (Sha256Digest, Result<VerifiedBlob, BlobError>)) -> Self {
        let mut report = Self {
            blob: arguments.blob.clone(),
            bundle: arguments.bundle.display().to_string(),
            digest,
            message: None,
            predicate_type: None,
            reason: None,
            signed_by: Vec::new(),
            verdict: "Refused",
        };
        match verdict {
            Ok(verified) => {
                report.verdict = "Satisfied";
                report.signed_by = verified.signed_by;
                report.predicate_type = verified.predicate_type;
            }
            Err(error) => {
                report.reason = Some(error.category());
                report.message = Some(plain(&error.to_string()));
            }
        }
        report
    }

    fn table(&self, out: &mut Vec<u8>) -> io::Result<()> {
        writeln!(out, "{}: {} under {}", self.verdict, plain(&self.blob), plain(&self.bundle))?;
        writeln!(out, "  {}", self.digest)?;
        if !self.signed_by.is_empty() {
            writeln!(out, "  signed by {}", plain(&self.signed_by.join(", ")))?;
        }
        if let Some(predicate_type) = &self.predicate_type {
            writeln!(out, "  in a statement of type {}", plain(predicate_type))?;
        }
        if let Some(message) = &self.message {
            writeln!(out, "  {message}")?;
        }
        Ok(())
    }
}
