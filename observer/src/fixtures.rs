//! What several tests need.

use std::path::Path;

use jiff::Timestamp;
use zastava_crds::wire::event::{
    ContainerRef, DriftClass, EVENT_SCHEMA, EventDetail, EventId, ExecutedFile, Killed, PolicyRef, Process,
    RuntimeEvent, Severity,
};

use crate::journal::{CursorName, Journal, Limits};

/// Boot of the node.
pub const BOOT: &str = "11111111-2222-3333-4444-555555555555";

/// The journal in `folder`, as the agent opens it.
pub fn journal(folder: &Path) -> Journal {
    Journal::open(folder, Limits::default(), &[CursorName::Report], BOOT).unwrap().0
}

/// The id of event `n`.
pub fn event_id(n: u64) -> EventId {
    EventId(format!("{n:032x}"))
}

/// An executed file that is not the image's.
pub fn drift(n: u64, severity: Severity) -> RuntimeEvent {
    RuntimeEvent {
        schema: EVENT_SCHEMA.to_owned(),
        event_id: event_id(n),
        observed_at: Timestamp::UNIX_EPOCH,
        boot_id: BOOT.to_owned(),
        monotonic_ns: n,
        container: ContainerRef {
            namespace: "shop".to_owned(),
            pod: "web-1".to_owned(),
            pod_uid: "uid".to_owned(),
            container: "web".to_owned(),
            container_id: "c".repeat(64),
            image: None,
            digests: Vec::new(),
        },
        severity,
        policies: vec![PolicyRef { name: "observe".to_owned(), uid: "p".to_owned(), hash: "sha256:0".to_owned() }],
        already_running: false,
        combined: None,
        detail: EventDetail::Drift {
            class: DriftClass::New,
            process: Process {
                pid: 7,
                ppid: 1,
                uid: 0,
                path: "/tmp/x".to_owned(),
                args: vec!["/tmp/x".to_owned()],
                args_truncated: false,
                parent: None,
            },
            file: ExecutedFile {
                path: "/tmp/x".to_owned(),
                interpreter: None,
                inode: n,
                device: 1,
                links: 1,
                size: 10,
                sha256: None,
                image_sha256: None,
                unread: None,
            },
            killed: Killed::No,
            would_kill: false,
        },
    }
}
