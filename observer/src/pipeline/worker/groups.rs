//! Records that are told with others: what they are is noted before the one event is told, and outlives this process.

use std::time::Instant;

use zastava_crds::wire::event::{Combined, LossReason, RuntimeEvent};

use super::{Step, Worker};
use crate::{
    pipeline::{identity::wall_clock, throttle::Group},
    probe::{ProbeError, settle::Outcome},
};

impl Worker {
    /// Tells the groups that are due; whether the store is stuck.
    pub(super) fn tell_groups(&mut self, all: bool) -> Result<bool, ProbeError> {
        if self.closing.is_some() && self.tell_group()? {
            return Ok(true);
        }
        // Their members are noted as a new one's would be: the next agent could not tell the two apart.
        if !self.orphaned.is_empty() {
            return Ok(false);
        }
        for group in self.throttle.due(Instant::now(), all) {
            if self.closing.is_some() {
                // They wait for the store as whatever else does.
                self.throttle.put_back(group);
                continue;
            }
            self.ledger.group(&group.members)?;
            self.closing = Some(group);
            self.tell_group()?;
        }
        Ok(self.closing.is_some())
    }

    /// Tells the group whose members are noted; whether the store is stuck.
    fn tell_group(&mut self) -> Result<bool, ProbeError> {
        let Some(group) = self.closing.take() else { return Ok(false) };
        match self.keep(Box::new(group.event())) {
            Step::Settled(Outcome::Stored) => self.ledger.settle_group(&group.members, Outcome::Combined)?,
            Step::Settled(outcome) => self.ledger.settle_group(&group.members, outcome)?,
            _ => {
                self.closing = Some(group);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells the group of an earlier agent under the id that it had: the store may know it.
    pub(super) fn adopt_group(&mut self) -> Result<(), ProbeError> {
        let Some(oldest) = self.orphaned.first().filter(|_| self.closing.is_none()) else { return Ok(()) };
        let outcome = match self.look(&oldest.record) {
            Ok(event) => {
                let until = self.orphaned.iter().map(|member| wall_clock(member.record.monotonic_ns)).max();
                let combined = until.map(|until| Combined { count: 1, until });
                let members = self.orphaned.drain(..).map(|member| member.position).collect();
                self.closing = Some(Group::of(RuntimeEvent { combined, ..event }, members));
                return self.tell_group().map(|_| ());
            }
            Err(Step::Settled(outcome)) => outcome,
            Err(_) if oldest.since.elapsed() < self.pending_age => return Ok(()),
            Err(_) => Outcome::Dropped(LossReason::PendingExpired),
        };
        let members: Vec<u64> = self.orphaned.drain(..).map(|member| member.position).collect();
        self.ledger.settle_group(&members, outcome)
    }
}
