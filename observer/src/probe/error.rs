//! What can go wrong with the probe.

use std::path::PathBuf;

use zastava_crds::wire::sync::CoverageReason;

/// The probe can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// `/sys/kernel/btf/vmlinux` is missing or unreadable.
    #[error("the kernel has no BTF: {0}; a kernel with CONFIG_DEBUG_INFO_BTF is needed")]
    NoBtf(#[source] aya::BtfError),
    /// The folder for pins can't be made.
    #[error("no pins can be kept in {path}: {source}; a bpffs must be mounted there")]
    Pins {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel refuses the program or its maps.
    #[error("the kernel refuses the probe: {0}")]
    Refused(String),
    /// A call on a loaded map failed.
    #[error("map {map}: {problem}")]
    Map {
        /// Which.
        map: &'static str,
        /// What the kernel said.
        problem: String,
    },
    /// A namespace of the node can't be read.
    #[error("{path} can't be read: {source}; hostPID and CAP_SYS_PTRACE are needed")]
    Namespace {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ProbeError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NoBtf(_) => "no_btf",
            Self::Pins { .. } => "pins",
            Self::Refused(_) => "refused",
            Self::Map { .. } => "map",
            Self::Namespace { .. } => "namespace",
        }
    }

    /// What the node tells about it.
    pub fn coverage_reason(&self) -> CoverageReason {
        match self {
            Self::NoBtf(_) => CoverageReason::NoBTF,
            _ => CoverageReason::ProbeRefused,
        }
    }

    pub(crate) fn map(map: &'static str) -> impl Fn(aya::maps::MapError) -> Self {
        move |error| Self::Map { map, problem: error.to_string() }
    }
}
