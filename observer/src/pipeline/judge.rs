//! From a record of the kernel to an event, or to nothing.

use std::{path::PathBuf, sync::Arc};

use zastava_crds::wire::event::{
    DriftClass, EVENT_SCHEMA, EventDetail, Killed, PolicyRef, Process, RuntimeEvent, Severity,
};

use super::identity::{Identity, wall_clock};
use crate::{
    containers::Container,
    drift::{Examined, Examiner, Kill, Located, kill, monotonic_start, severity, severity_of_library},
    probe::{
        Maps,
        load::monotonic_ns,
        mapping::Mapping,
        record::{ExecRecord, flags},
    },
    rules::{Decision, Policy, Subject, spelled},
};

/// Judges records of known containers.
#[derive(Clone, Debug)]
pub struct Judge {
    pub identity: Identity,
    pub examiner: Arc<Examiner>,
    pub maps: Arc<Maps>,
    pub proc: PathBuf,
}

impl Judge {
    /// The event that a record becomes, if it is of interest. What must die is killed on the way.
    pub fn judge(&self, record: &ExecRecord, container: &Container, policies: &[Arc<Policy>]) -> Option<RuntimeEvent> {
        if policies.is_empty() {
            return None;
        }
        let located = self.examiner.locate(record, container);
        let path = located.file.path.clone();
        let interpreter = located.file.interpreter.is_some();
        if let Some(event) = self.drift(record, container, policies, located) {
            return Some(event);
        }
        // A name that was given to exec may be a link: busybox has many. So may the one that a script gives.
        let given = spelled(&record.filename);
        let in_script = spelled(record.interpreter.as_deref().unwrap_or_default());
        let (rule, by) = Decision::on_process(policies, &[&path, &record.path, &given, &in_script])?;
        let mut located = self.examiner.locate(record, container);
        located.class = None;
        let mut file = located.file;
        file.interpreter = interpreter.then(|| record.path.clone());
        let detail = EventDetail::DeniedProcess { rule, process: process(record), file };
        Some(self.event(record, container, Severity::High, by, detail))
    }

    fn drift(
        &self,
        record: &ExecRecord,
        container: &Container,
        policies: &[Arc<Policy>],
        located: Located,
    ) -> Option<RuntimeEvent> {
        let class = located.class?;
        let path_holds = located.path_holds;
        // Before it is read where possible: it runs meanwhile.
        let early = (!located.depends_on_content())
            .then(|| self.act(record, policies, subject(class, &located.file.path, path_holds, None)));
        if let Some((decision, _)) = &early
            && decision.policies.is_empty()
        {
            return None;
        }
        let Examined { class, changed, file, verified } = self.examiner.read(located);
        if let Some(key) = verified
            && let Err(error) = self.maps.put_verified(key)
        {
            tracing::debug!(%error, "a verified file is not remembered");
        }
        let (decision, killed) =
            early.unwrap_or_else(|| self.act(record, policies, subject(class, &file.path, path_holds, changed)));
        if decision.policies.is_empty() {
            return None;
        }
        let severity = severity(class, changed);
        let detail =
            EventDetail::Drift { class, process: process(record), file, killed, would_kill: decision.would_kill };
        Some(self.event(record, container, severity, decision.policies, detail))
    }

    /// The event that a mapped file becomes, if a policy wants to know; `lived_at` is the moment of CLOCK_BOOTTIME at
    /// which its process mapped it, if that one lives. What a loader was told to run is killed as what
    /// is executed is, and late; libraries are only told.
    pub fn library(
        &self,
        mapping: &Mapping,
        located: Located,
        process: Process,
        payload: bool,
        lived_at: Option<u64>,
        (container, policies): (&Container, &[Arc<Policy>]),
    ) -> Option<RuntimeEvent> {
        let path_holds = located.path_holds;
        let Examined { class, changed, file, .. } = self.examiner.read(located);
        let by = Decision::on_library(policies, subject(class, &file.path, path_holds, changed));
        if by.is_empty() {
            return None;
        }
        let mut decision = Decision::default();
        if payload {
            decision = Decision::on_drift(policies, subject(class, &file.path, path_holds, changed));
        }
        // The pid may be another's by now: that one started after the mapping was made.
        let start = lived_at.filter(|_| decision.kill).and_then(|boottime_ns| {
            monotonic_start(&self.proc, mapping.pid).filter(|ticks| ticks * 10_000_000 <= boottime_ns)
        });
        let killed = start.map_or(Killed::No, |ticks| self.late(mapping.pid, ticks * 10_000_000));
        let detail = EventDetail::Library { class, process, file, payload, killed, would_kill: decision.would_kill };
        let severity = severity_of_library(class, changed);
        Some(RuntimeEvent {
            schema: EVENT_SCHEMA.to_owned(),
            event_id: self.identity.mapping_id(mapping),
            observed_at: wall_clock(mapping.monotonic_ns),
            boot_id: self.identity.boot_id.clone(),
            monotonic_ns: mapping.monotonic_ns,
            container: container.reference.clone(),
            severity,
            policies: by,
            already_running: false,
            combined: None,
            detail,
        })
    }

    /// The event that a process becomes that was found running. It is never killed: it was there first.
    pub fn running(
        &self,
        process: Process,
        start_ticks: u64,
        container: &Container,
        policies: &[Arc<Policy>],
    ) -> Option<RuntimeEvent> {
        let located = self.examiner.running(process.pid, container)?;
        let path_holds = located.path_holds;
        let Examined { class, changed, file, .. } = self.examiner.read(located);
        let decision = Decision::on_drift(policies, subject(class, &file.path, path_holds, changed));
        if decision.policies.is_empty() {
            return None;
        }
        let now = monotonic_ns();
        Some(RuntimeEvent {
            schema: EVENT_SCHEMA.to_owned(),
            event_id: self.identity.running_id(process.pid, start_ticks, file.inode),
            observed_at: wall_clock(now),
            boot_id: self.identity.boot_id.clone(),
            monotonic_ns: now,
            container: container.reference.clone(),
            severity: severity(class, changed),
            policies: decision.policies,
            already_running: true,
            combined: None,
            detail: EventDetail::Drift { class, process, file, killed: Killed::No, would_kill: false },
        })
    }

    fn late(&self, pid: u32, start_boottime_ns: u64) -> Killed {
        match kill(&self.proc, pid, start_boottime_ns) {
            Kill::Sent => Killed::Late,
            Kill::Gone => Killed::No,
            Kill::Refused(kind) => {
                tracing::error!(?kind, pid, "a drifting process could not be killed: is KILL granted?");
                Killed::No
            }
        }
    }

    fn act(&self, record: &ExecRecord, policies: &[Arc<Policy>], subject: Subject<'_>) -> (Decision, Killed) {
        let mut decision = Decision::on_drift(policies, subject);
        if record.has(flags::KILLED) {
            // Rules may have changed since: a kill is told all the same.
            if decision.policies.is_empty() {
                let drift = policies.iter().filter(|policy| policy.drift.is_some());
                decision.policies = drift.map(|policy| policy.reference.clone()).collect();
            }
            decision.would_kill = false;
            return (decision, Killed::Before);
        }
        if !decision.kill {
            return (decision, Killed::No);
        }
        (decision, self.late(record.pid, record.start_boottime_ns))
    }

    fn event(
        &self,
        record: &ExecRecord,
        container: &Container,
        severity: Severity,
        policies: Vec<PolicyRef>,
        detail: EventDetail,
    ) -> RuntimeEvent {
        RuntimeEvent {
            schema: EVENT_SCHEMA.to_owned(),
            event_id: self.identity.event_id(record),
            observed_at: wall_clock(record.monotonic_ns),
            boot_id: self.identity.boot_id.clone(),
            monotonic_ns: record.monotonic_ns,
            container: container.reference.clone(),
            severity,
            policies,
            already_running: false,
            combined: None,
            detail,
        }
    }
}

const fn subject(class: DriftClass, path: &str, path_holds: bool, changed: Option<bool>) -> Subject<'_> {
    Subject { class, path, path_holds, unchanged: matches!(changed, Some(false)), unread: changed.is_none() }
}

/// What the event of an exec says of its process.
pub fn process(record: &ExecRecord) -> Process {
    Process {
        pid: record.pid,
        ppid: record.ppid,
        uid: record.uid,
        path: record.filename.clone(),
        args: record.args.clone(),
        args_truncated: record.args_cut,
        parent: (!record.parent.is_empty()).then(|| record.parent.clone()),
    }
}
