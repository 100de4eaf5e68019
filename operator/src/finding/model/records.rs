//! Records as observers and webhooks send them.

use zastava_crds::wire::{
    event::{
        ContainerRef, DriftClass, EVENT_SCHEMA, EventDetail, EventId, ExecutedFile, Killed, PolicyRef, Process,
        RuntimeEvent, Severity,
    },
    report::{AdmissionOutcome, AdmissionRecord, DECISION_SCHEMA, Report, WorkloadRef},
};

fn policy() -> PolicyRef {
    PolicyRef { name: "baseline".to_owned(), uid: "u".to_owned(), hash: "h".to_owned() }
}

/// Drift at `path` in a pod.
pub(crate) fn event(namespace: &str, pod_uid: &str, path: &str) -> RuntimeEvent {
    RuntimeEvent {
        schema: EVENT_SCHEMA.to_owned(),
        event_id: EventId("e1".to_owned()),
        observed_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        boot_id: "b".to_owned(),
        monotonic_ns: 1,
        container: ContainerRef {
            namespace: namespace.to_owned(),
            pod: format!("pod-{pod_uid}"),
            pod_uid: pod_uid.to_owned(),
            container: "main".to_owned(),
            container_id: "c".to_owned(),
            image: Some("registry.example/shop/web:1".to_owned()),
            digests: Vec::new(),
        },
        severity: Severity::High,
        policies: vec![policy()],
        already_running: false,
        combined: None,
        detail: EventDetail::Drift {
            class: DriftClass::New,
            process: Process {
                pid: 7,
                ppid: 1,
                uid: 0,
                path: path.to_owned(),
                args: vec![path.to_owned()],
                args_truncated: false,
                parent: Some("sh".to_owned()),
            },
            file: ExecutedFile {
                path: path.to_owned(),
                interpreter: None,
                inode: 1,
                device: 1,
                links: 1,
                size: 1,
                sha256: None,
                image_sha256: None,
                unread: None,
            },
            killed: Killed::No,
            would_kill: false,
        },
    }
}

/// The same as a record.
pub(crate) fn drift(namespace: &str, pod_uid: &str, path: &str) -> Report {
    Report::Runtime(event(namespace, pod_uid, path))
}

/// A denied image of a Deployment.
pub(crate) fn denied(namespace: &str, image: &str) -> Report {
    Report::Admission(AdmissionRecord {
        schema: DECISION_SCHEMA.to_owned(),
        event_id: "review/main".to_owned(),
        decided_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        namespace: namespace.to_owned(),
        workload: WorkloadRef { kind: "Deployment".to_owned(), name: "web".to_owned() },
        container: "main".to_owned(),
        image: image.to_owned(),
        digest: None,
        outcome: AdmissionOutcome::Denied,
        policy: policy(),
        requirement: "signatures[release]".to_owned(),
        message: "no signature".to_owned(),
        severity: Severity::Medium,
    })
}
