//! A batch into its findings, each counted once.

mod locks;

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use zastava_crds::{
    finding::{RuntimeFindingStatus, StoredMark},
    wire::report::{BatchMark, BatchReceipt, RefusedReason, Report},
};

use self::locks::{Keyed, ReporterState};
use super::{
    FindingMetrics,
    attribute::{PodSource, PodsUnavailable, Sender},
    key::{FindingKey, Standing},
    mark,
    plan::{Caps, Plan, Refusals},
    sighting::Sighting,
    store::{FindingStore, StoreError},
};
use crate::nodes::NodeRegistry;

/// Tries of one write against others of the same finding.
const ATTEMPTS: usize = 8;
/// Findings of one batch that are written at a time.
const AT_ONCE: usize = 8;
/// Findings in Zastava's own namespace whose attribution is a node's word alone, at most.
const MAX_UNVERIFIED: usize = 200;
/// Those of one node, at most: one that lies leaves room for the others.
const MAX_UNVERIFIED_OF_NODE: usize = 20;

/// Why a batch has no receipt.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// A later batch of the reporter is known: this one was confirmed and must not be counted again.
    #[error("batch {seq} of {reporter} is a repeat from before batch {latest}")]
    Superseded {
        /// Who.
        reporter: String,
        /// Which.
        seq: u64,
        /// The later one.
        latest: u64,
    },
    /// Pods could not be looked up.
    #[error(transparent)]
    Pods(#[from] PodsUnavailable),
    /// A finding could not be written; what was written is marked and is not added again.
    #[error(transparent)]
    Store(StoreError),
    /// Others wrote the same finding all the time.
    #[error("a finding is written by others all the time")]
    Contended,
}

impl BatchError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Superseded { .. } => "superseded",
            Self::Pods(_) => "pods",
            Self::Store(error) => error.category(),
            Self::Contended => "contended",
        }
    }
}

enum Added {
    Merged,
    Refused(RefusedReason),
    NamespaceGone,
}

/// Merges batches into findings.
#[derive(Debug)]
pub struct Merger<S, P> {
    store: S,
    pods: P,
    nodes: NodeRegistry,
    caps: Caps,
    own_namespace: String,
    metrics: FindingMetrics,
    reporters: Keyed<ReporterState>,
    findings: Keyed<()>,
}

impl<S: FindingStore, P: PodSource> Merger<S, P> {
    /// Merges into `store`; what has no home goes to `own_namespace`.
    pub fn new(
        store: S,
        pods: P,
        nodes: NodeRegistry,
        caps: Caps,
        own_namespace: String,
        metrics: FindingMetrics,
    ) -> Self {
        let (reporters, findings) = (Keyed::default(), Keyed::default());
        Self { store, pods, nodes, caps, own_namespace, metrics, reporters, findings }
    }

    /// Merges a batch; `None` is a record that could not be read. With an error nothing was lost: the same batch may
    /// come again, here or at another leader, and adds only what is missing.
    ///
    /// # Errors
    /// [`BatchError`]; all but `Superseded` go away with time.
    pub async fn merge(
        &self,
        mark: &BatchMark,
        sender: &Sender,
        records: Vec<Option<Report>>,
    ) -> Result<BatchReceipt, BatchError> {
        let result = self.merge_in_turn(mark, sender, records).await;
        match &result {
            Ok(receipt) => self.metrics.acknowledged(receipt),
            Err(error) => self.metrics.batch(error.category()),
        }
        result
    }

    async fn merge_in_turn(
        &self,
        mark: &BatchMark,
        sender: &Sender,
        records: Vec<Option<Report>>,
    ) -> Result<BatchReceipt, BatchError> {
        let state = self.reporters.get(&mark.reporter);
        // One batch of a reporter at a time: a handler whose client gave up must not overlap with the repeat.
        let mut state = state.lock().await;
        if mark.seq < state.latest {
            return Err(BatchError::Superseded {
                reporter: mark.reporter.clone(),
                seq: mark.seq,
                latest: state.latest,
            });
        }
        if mark.seq > state.latest {
            *state = ReporterState { latest: mark.seq, plan: None };
        }
        if let Some(before) = mark.seq.checked_sub(1) {
            self.nodes.confirm(&BatchMark { reporter: mark.reporter.clone(), seq: before });
        }
        let content = content(&records);
        let plan = match &state.plan {
            Some((of, plan)) if *of == content => plan.clone(),
            _ => {
                let plan = Arc::new(Plan::of(records, sender, &self.pods).await?);
                state.plan = Some((content, plan.clone()));
                plan
            }
        };
        let receipt = self.carry_out(mark, &plan).await?;
        for (reason, count) in &plan.lost {
            self.metrics.lost(reason, *count);
        }
        self.metrics.noise(plan.noise);
        Ok(receipt)
    }

    /// Writes every group, also after one has failed: what is written now need not be written again.
    async fn carry_out(&self, mark: &BatchMark, plan: &Plan) -> Result<BatchReceipt, BatchError> {
        let mut merged = u64::try_from(plan.lost.len()).unwrap_or(u64::MAX) + plan.noise.iter().sum::<u64>();
        let mut refused: Refusals = plan.refused.clone();
        let mut failed = None;
        let mut writes = Vec::with_capacity(plan.groups.len());
        for (key, sighting) in &plan.groups {
            let write = self.add_or_take_in(mark, key, sighting);
            writes.push(async { (write.await, sighting.count) });
        }
        let mut groups = stream::iter(writes).buffer_unordered(AT_ONCE);
        while let Some((added, count)) = groups.next().await {
            match added {
                Ok(Added::Merged) => merged += count,
                Ok(Added::Refused(reason)) => refused.add(reason, count),
                // Nobody takes it: our own namespace is being deleted.
                Ok(Added::NamespaceGone) => failed = Some(BatchError::Store(StoreError::NamespaceGone)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(BatchReceipt { mark: mark.clone(), merged, refused: refused.into_vec() }),
        }
    }

    async fn add_or_take_in(
        &self,
        mark: &BatchMark,
        key: &FindingKey,
        sighting: &Sighting,
    ) -> Result<Added, BatchError> {
        match self.add(mark, key, sighting).await? {
            Added::NamespaceGone if key.standing == Standing::Attributed => {
                let sighting = Sighting { unverified: true, ..sighting.clone() };
                self.add(mark, &key.without_namespace(), &sighting).await
            }
            added => Ok(added),
        }
    }

    async fn add(&self, mark: &BatchMark, key: &FindingKey, sighting: &Sighting) -> Result<Added, BatchError> {
        let name = key.name();
        let home = key.home(&self.own_namespace);
        let turn = self.findings.get(&name);
        // The object itself is the bottleneck; without the queue its writers would only send each other back.
        let _turn = turn.lock().await;
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let found = self.store.get(home, &name, fresh).await.map_err(BatchError::Store)?;
            let sure = std::mem::replace(&mut fresh, true);
            let mut finding = match found {
                Some(finding) => finding,
                // A finding that this view does not show yet needs no room.
                None if !sure && !self.has_room(key, sighting) => continue,
                None if !self.has_room(key, sighting) => return Ok(Added::Refused(RefusedReason::Capped)),
                None => match self.store.create(&key.object(&self.own_namespace)).await {
                    Ok(finding) => finding,
                    Err(StoreError::Exists) => continue,
                    Err(StoreError::NamespaceGone) => return Ok(Added::NamespaceGone),
                    Err(StoreError::Invalid(why)) => return Ok(invalid(&name, &why)),
                    Err(error) => return Err(BatchError::Store(error)),
                },
            };
            let status = finding.status.get_or_insert_with(RuntimeFindingStatus::default);
            if !sighting.apply(status, mark, |mark| self.confirmed(mark)) {
                return Ok(Added::Merged);
            }
            match self.store.write_status(&finding).await {
                Ok(()) => return Ok(Added::Merged),
                Err(StoreError::Conflict | StoreError::Missing) => {}
                Err(StoreError::Invalid(why)) => return Ok(invalid(&name, &why)),
                Err(error) => return Err(BatchError::Store(error)),
            }
        }
        Err(BatchError::Contended)
    }

    fn confirmed(&self, mark: &StoredMark) -> bool {
        self.nodes.confirmed(&mark.reporter, mark.seq) || self.pods.is_over(mark::base(&mark.reporter))
    }

    fn has_room(&self, key: &FindingKey, sighting: &Sighting) -> bool {
        match key.standing {
            Standing::Attributed => self.store.count(&key.namespace, None) < self.caps.of(&sighting.policies),
            Standing::NeverSeen | Standing::NamespaceGone => {
                let node = sighting.nodes.first().map(String::as_str);
                self.store.count(&self.own_namespace, None) < MAX_UNVERIFIED
                    && node.is_none_or(|n| self.store.count(&self.own_namespace, Some(n)) < MAX_UNVERIFIED_OF_NODE)
            }
        }
    }
}

fn invalid(name: &str, why: &str) -> Added {
    tracing::warn!(name, why, "the API server refuses a finding for good: its records are counted as refused");
    Added::Refused(RefusedReason::OutOfBounds)
}

/// Tells one content from another under the same mark.
fn content(records: &[Option<Report>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for record in records {
        // A record came from JSON and goes back to it; one that does not counts as unread.
        hash.update(serde_json::to_vec(record).unwrap_or_default());
    }
    hash.finalize().into()
}
