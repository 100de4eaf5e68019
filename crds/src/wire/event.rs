//! Runtime events: one thing that happened on a node.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::{ImageDigest, Sha256Digest};

/// The schema name of a runtime event.
pub const EVENT_SCHEMA: &str = "zastava.runtime.event@v1";

/// Identity of an event, fixed in the kernel before any enrichment: hex of 16 bytes of
/// SHA-256 over (node UID, boot id, kind, CPU, per-CPU sequence, kernel time).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct EventId(pub String);

impl EventId {
    /// The id of an event that comes with this one.
    #[must_use]
    pub fn derived(&self, kind: &str) -> Self {
        let hash = Sha256::digest(format!("{} {kind}", self.0));
        Self(hex::encode(&hash[..16]))
    }
}

/// One thing that happened on a node, with all that was known of it when it was written to the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeEvent {
    /// [`EVENT_SCHEMA`].
    pub schema: String,
    /// Fixed at the source.
    pub event_id: EventId,
    /// When the kernel saw it, UTC.
    pub observed_at: Timestamp,
    /// Boot of the node that `monotonic_ns` counts from.
    pub boot_id: String,
    /// Nanoseconds of CLOCK_MONOTONIC at the source.
    pub monotonic_ns: u64,
    /// Where it happened.
    pub container: ContainerRef,
    /// How much it matters.
    pub severity: Severity,
    /// Policies whose rules it met, sorted; never empty for a reported event.
    pub policies: Vec<PolicyRef>,
    /// It happened before anybody looked: the process was found running.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already_running: bool,
    /// It stands for more than itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combined: Option<Combined>,
    /// What happened.
    pub detail: EventDetail,
}

/// How many equal things one event stands for, itself included: a noisy container is told so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Combined {
    /// How many.
    pub count: u64,
    /// When the last of them happened.
    pub until: Timestamp,
}

/// Things that one event stands for at most.
pub const MAX_COMBINED: u64 = 4096;

/// A container as the observer attributes it, from CRI alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod as CRI tells it: for a static pod the config hash, not the mirror pod's UID.
    pub pod_uid: String,
    /// Name of the container in the pod.
    pub container: String,
    /// Outermost container id in the cgroup's name.
    pub container_id: String,
    /// Reference the kubelet asked the runtime for, if any was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Digests of the image that really runs: repo digest first, config digest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<ImageDigest>,
}

/// The policy that made an event reportable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Name of the ZastavaPolicy.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Hash of its spec ([`crate::canonical::hash`]).
    pub hash: String,
}

/// Severity of an event and of a finding, mildest first.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::Display,
)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// An allowed thing done in an odd way, such as a chmod of an image's own file.
    Low,
    /// Unproven.
    Medium,
    /// Content that is not the image's.
    High,
    /// Content that hides itself.
    Critical,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EventDetail {
    /// A process was executed from content that is not the image's.
    Drift {
        /// Where the content came from.
        class: DriftClass,
        /// What ran.
        process: Process,
        /// The file it ran from.
        file: ExecutedFile,
        /// What was done about it.
        killed: Killed,
        /// A kill that mode or action held back.
        would_kill: bool,
    },
    /// A file that is not content of the image was mapped for execution: a library, or what a loader was told to run.
    Library {
        /// Where the content came from.
        class: DriftClass,
        /// What loaded it; user id 4294967295 when it was gone before anything was known of it.
        process: Process,
        /// The file that was loaded.
        file: ExecutedFile,
        /// A dynamic loader was told to run it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        payload: bool,
        /// What was done about it.
        killed: Killed,
        /// A kill that mode or action held back.
        would_kill: bool,
    },
    /// A process that a rule of the policy denies was executed from the image's own content.
    DeniedProcess {
        /// The glob that matched.
        rule: String,
        /// What ran.
        process: Process,
        /// The file it ran from.
        file: ExecutedFile,
    },
    /// A container does the same so often that its equals are combined in one event a second, or does no longer.
    Throttling {
        /// The class of drift, or the glob, that it is about.
        rule: String,
        /// Severity of the events that are combined.
        of: Severity,
        /// It started; else it stopped.
        started: bool,
        /// Events that were combined until it stopped.
        combined: u64,
    },
    /// The observer lost events: the honest end of every bound.
    Lost {
        /// Why, from a closed set.
        reason: LossReason,
        /// How many.
        count: u64,
        /// From when.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
    },
}

impl EventDetail {
    /// The process that it is about.
    pub const fn process_mut(&mut self) -> Option<&mut Process> {
        match self {
            Self::Drift { process, .. } | Self::Library { process, .. } | Self::DeniedProcess { process, .. } => {
                Some(process)
            }
            Self::Throttling { .. } | Self::Lost { .. } => None,
        }
    }

    /// The file that it is about.
    pub const fn file(&self) -> Option<&ExecutedFile> {
        match self {
            Self::Drift { file, .. } | Self::Library { file, .. } | Self::DeniedProcess { file, .. } => Some(file),
            Self::Throttling { .. } | Self::Lost { .. } => None,
        }
    }

    /// The same, to change it.
    pub const fn file_mut(&mut self) -> Option<&mut ExecutedFile> {
        match self {
            Self::Drift { file, .. } | Self::Library { file, .. } | Self::DeniedProcess { file, .. } => Some(file),
            Self::Throttling { .. } | Self::Lost { .. } => None,
        }
    }
}

/// Where executed content came from.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::Display,
)]
pub enum DriftClass {
    /// Upper layer of the container's root, no lower origin.
    New,
    /// Upper layer, with a lower origin: changed or only copied up.
    CopiedUp,
    /// Another superblock: volume, tmpfs, own overlay.
    Foreign,
    /// Memory file or deleted file: it has no name anyone could look up.
    Unnamed,
    /// The container's root is no overlay, nothing can be said.
    Unknown,
}

/// What was done to a drifting process.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr, strum::Display,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Killed {
    /// In the kernel, before its first instruction.
    Before,
    /// Through a pidfd, after it had started.
    Late,
    /// Not at all.
    No,
}

/// A process at its exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Pid as seen in the observer's pid namespace.
    pub pid: u32,
    /// Parent's pid, there too.
    pub ppid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// The name given to exec(2), as text; bytes that are not UTF-8 become U+FFFD.
    pub path: String,
    /// Arguments, bounded to 32 of 4 KiB in all, redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Arguments were cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub args_truncated: bool,
    /// The comm of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// The file that was executed, as the kernel saw it at exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutedFile {
    /// Path of the executed object in the container's root (the script, for a `#!` program).
    pub path: String,
    /// Interpreter, for a script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// Inode number on its file system.
    pub inode: u64,
    /// Device number (`major << 20 | minor`).
    pub device: u64,
    /// Links to it; 0 when it is deleted.
    pub links: u32,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, where it could be read in time and within bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// The same file of the image below it, for [`DriftClass::CopiedUp`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_sha256: Option<Sha256Digest>,
    /// Why there is no hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// Where events were lost.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr, strum::EnumIter,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "snake_case")]
pub enum LossReason {
    /// No room in the kernel's ring.
    RingFull,
    /// The probe's program was already running on that CPU.
    Recursion,
    /// Metadata never came within the bound of time or number.
    PendingExpired,
    /// Journal over its bound: oldest of the lowest severity went first.
    JournalEvicted,
    /// The disk refused.
    JournalWrite,
    /// A record's checksum did not match.
    JournalCorrupt,
}
