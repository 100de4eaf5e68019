//! A batch, judged and grouped: one write for each finding, however many records speak of it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use zastava_crds::wire::report::{Refused, RefusedReason, Report};

use super::{
    attribute::{Outcome, PodSource, PodsUnavailable, Sender, attribute},
    key::FindingKey,
    sighting::Sighting,
};

/// Findings that a namespace may hold, by the policies that ask for one.
#[derive(Clone)]
pub struct Caps(Arc<CapOf>);

type CapOf = dyn Fn(&[String]) -> usize + Send + Sync;

impl Caps {
    /// From the policies' names to the highest cap among them.
    pub fn new(of: impl Fn(&[String]) -> usize + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    pub(super) fn of(&self, policies: &[String]) -> usize {
        (self.0)(policies)
    }
}

impl fmt::Debug for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caps")
    }
}

/// A judged batch. It is made once and kept until the reporter moves on: a later attempt must not put a record under
/// another finding than the first did, only because the pod has become known in between.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) groups: BTreeMap<FindingKey, Sighting>,
    pub(super) lost: Vec<(&'static str, u64)>,
    /// How often containers became noisy, and how often they became calm.
    pub(super) noise: [u64; 2],
    pub(super) refused: Refusals,
}

impl Plan {
    /// Judges the records; one that could not be read is `None`.
    pub(super) async fn of<P: PodSource>(
        records: Vec<Option<Report>>,
        sender: &Sender,
        pods: &P,
    ) -> Result<Self, PodsUnavailable> {
        let mut plan = Self::default();
        let now = Timestamp::now();
        for record in records {
            let Some(record) = record else {
                plan.refused.add(RefusedReason::OutOfBounds, 1);
                continue;
            };
            match attribute(record, sender, pods, now).await? {
                Outcome::Seen(key, sighting) => match plan.groups.get_mut(&key) {
                    Some(group) => group.add(*sighting),
                    None => {
                        plan.groups.insert(key, *sighting);
                    }
                },
                Outcome::Lost { reason, count } => plan.lost.push((reason, count)),
                Outcome::Noise { started } => plan.noise[usize::from(!started)] += 1,
                Outcome::Refused(reason) => plan.refused.add(reason, 1),
            }
        }
        Ok(plan)
    }
}

/// Records refused for good, by reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Vec<Refused>);

impl Refusals {
    pub(super) fn add(&mut self, reason: RefusedReason, count: u64) {
        match self.0.iter_mut().find(|refused| refused.reason == reason) {
            Some(refused) => refused.count += count,
            None => self.0.push(Refused { reason, count }),
        }
    }

    pub(super) fn into_vec(self) -> Vec<Refused> {
        self.0
    }
}
