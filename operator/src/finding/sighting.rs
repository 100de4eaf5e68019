//! Sightings of one thing in one batch, and how they change a finding's status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use zastava_crds::{
    digest::ImageDigest,
    finding::{Evidence, RuntimeFindingStatus, StoredMark},
    wire::{event::Severity, report::BatchMark},
};

use super::mark::{self, Recorded};

pub(super) const MAX_SAMPLES: usize = 5;
pub(super) const MAX_POLICIES: usize = 16;
pub(super) const MAX_DIGESTS: usize = 4;

/// What one record, or all records of a batch about one finding, say.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// How many.
    pub count: u64,
    /// Highest severity.
    pub severity: Severity,
    /// First of them.
    pub first: Timestamp,
    /// Last of them.
    pub last: Timestamp,
    /// Policies that made them reportable.
    pub policies: Vec<String>,
    /// Pods, a few.
    pub pods: Vec<String>,
    /// Nodes, a few.
    pub nodes: Vec<String>,
    /// Image of the last.
    pub image: Option<String>,
    /// Its digests.
    pub digests: Vec<ImageDigest>,
    /// Evidence of the last.
    pub evidence: Evidence,
    /// The attribution is the node's word alone.
    pub unverified: bool,
}

impl Sighting {
    /// Takes another of the same thing in.
    pub fn add(&mut self, other: Self) {
        self.count += other.count;
        self.severity = self.severity.max(other.severity);
        self.first = self.first.min(other.first);
        self.unverified |= other.unverified;
        sample(&mut self.policies, other.policies, MAX_POLICIES);
        sample(&mut self.pods, other.pods, MAX_SAMPLES);
        sample(&mut self.nodes, other.nodes, MAX_SAMPLES);
        if other.last >= self.last {
            self.last = other.last;
            self.image = other.image;
            self.digests = other.digests;
            self.evidence = other.evidence;
        }
    }

    /// Adds this to a status under the batch's mark. False: the status already holds the batch.
    pub(super) fn apply(
        &self,
        status: &mut RuntimeFindingStatus,
        batch: &BatchMark,
        confirmed: impl Fn(&StoredMark) -> bool,
    ) -> bool {
        let Recorded::New { approximate } = mark::record(&mut status.marks, batch, confirmed) else { return false };
        status.count = status.count.saturating_add(self.count);
        status.approximate |= approximate;
        status.unverified |= self.unverified;
        status.severity = status.severity.max(Some(self.severity));
        let first = status.first_seen.as_ref().map_or(self.first, |old| old.0.min(self.first));
        status.first_seen = Some(Time(first));
        sample(&mut status.policies, self.policies.clone(), MAX_POLICIES);
        sample(&mut status.pods, self.pods.clone(), MAX_SAMPLES);
        sample(&mut status.nodes, self.nodes.clone(), MAX_SAMPLES);
        // Times in status have whole seconds or less: an equal one is taken for later.
        if status.last_seen.as_ref().is_none_or(|old| self.last >= old.0) {
            status.last_seen = Some(Time(self.last));
            status.image.clone_from(&self.image);
            status.digests = self.digests.iter().take(MAX_DIGESTS).cloned().collect();
            status.evidence = Some(self.evidence.clone());
        }
        true
    }
}

/// Keeps the first few, so that steady repetition changes nothing.
fn sample(kept: &mut Vec<String>, more: Vec<String>, max: usize) {
    for one in more {
        if kept.len() < max && !kept.contains(&one) {
            kept.push(one);
        }
    }
}
