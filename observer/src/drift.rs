//! Drift settled in user space: what the kernel could only hint at, and what it could not see.

mod examine;
mod mapped;
mod process;
mod read;
mod root;
mod script;

pub use examine::{Examined, Examiner, Located};
pub use mapped::Mapped;
pub use process::{Kill, kill, monotonic_start};
pub use root::{Overlay, Root};

use zastava_crds::wire::event::{DriftClass, Severity};

/// How much executed content matters. `changed` tells whether the content of a copied-up file differs from the image's.
pub const fn severity(class: DriftClass, changed: Option<bool>) -> Severity {
    match (class, changed) {
        (DriftClass::New, _) | (DriftClass::CopiedUp, Some(true)) => Severity::High,
        (DriftClass::CopiedUp, Some(false)) => Severity::Low,
        (DriftClass::CopiedUp, None) | (DriftClass::Foreign, _) => Severity::Medium,
        (DriftClass::Unnamed, _) => Severity::Critical,
        (DriftClass::Unknown, _) => Severity::Info,
    }
}

/// The same of content that was loaded: one step less.
pub const fn severity_of_library(class: DriftClass, changed: Option<bool>) -> Severity {
    match severity(class, changed) {
        Severity::Critical => Severity::High,
        Severity::High => Severity::Medium,
        Severity::Medium => Severity::Low,
        Severity::Low | Severity::Info => Severity::Info,
    }
}
