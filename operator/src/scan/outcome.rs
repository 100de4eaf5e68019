//! What a scan comes to, and how a finding tells it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use zastava_crds::{
    digest::Sha256Digest,
    finding::{ScanPhase, ScanStatus, ScanVerdict},
};

/// Tries of one scan at most: about an hour and a half of them.
pub(super) const MAX_ATTEMPTS: u32 = 14;
const MAX_MESSAGE: usize = 512;

/// What a bill of materials says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It lists exactly this content.
    Known {
        /// purl or name of its component.
        component: Option<String>,
        /// Where it is listed, if elsewhere.
        listed_at: Option<String>,
    },
    /// It lists the path with other content.
    Modified {
        /// purl or name of its component.
        component: Option<String>,
        /// What should be there.
        expected: Sha256Digest,
    },
    /// It lists neither.
    Unknown,
    /// There is nothing to compare with, for this reason.
    Silent(String),
}

/// A scan that asks again.
pub(super) fn pending(sha256: Option<Sha256Digest>, now: Timestamp) -> ScanStatus {
    ScanStatus {
        summary: ScanPhase::Pending.to_string(),
        phase: ScanPhase::Pending,
        verdict: None,
        message: None,
        component: None,
        sha256,
        requested_at: Time(now),
        finished_at: None,
        attempts: 0,
    }
}

/// The same scan with its answer.
pub(super) fn done(scan: &ScanStatus, answer: &Answer, now: Timestamp) -> ScanStatus {
    let (verdict, message, component) = match answer {
        Answer::Known { component, listed_at: None } => {
            (ScanVerdict::Known, "the image's SBOM lists exactly this file".to_owned(), component.clone())
        }
        Answer::Known { component, listed_at: Some(path) } => {
            (ScanVerdict::Known, format!("the image's SBOM lists this content at {path}"), component.clone())
        }
        Answer::Modified { component, expected } => (
            ScanVerdict::Modified,
            format!("the image's SBOM lists this path with other content: {expected}"),
            component.clone(),
        ),
        Answer::Unknown => {
            (ScanVerdict::Unknown, "the image's SBOM lists neither this path nor this content".to_owned(), None)
        }
        Answer::Silent(why) => (ScanVerdict::Unknown, why.clone(), None),
    };
    ScanStatus {
        summary: verdict.to_string(),
        phase: ScanPhase::Done,
        verdict: Some(verdict),
        message: Some(cut(&message)),
        component: component.map(|component| cut(&component)),
        finished_at: Some(Time(now)),
        attempts: scan.attempts + 1,
        ..scan.clone()
    }
}

/// The same scan after a try that came to nothing.
pub(super) fn failed(scan: &ScanStatus, why: &str, now: Timestamp) -> ScanStatus {
    let attempts = scan.attempts + 1;
    let over = attempts >= MAX_ATTEMPTS;
    let phase = if over { ScanPhase::Failed } else { ScanPhase::Pending };
    ScanStatus {
        summary: phase.to_string(),
        phase,
        message: Some(cut(why)),
        finished_at: over.then_some(Time(now)),
        attempts,
        ..scan.clone()
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).collect()
}
