//! Findings that stand for as long as their cause does: opened once, kept without a write, resolved, opened again.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use zastava_crds::{
    digest::ImageDigest,
    finding::{Evidence, Resolution, ResolutionReason, RuntimeFindingStatus},
    wire::event::Severity,
};

use super::{
    attribute::printable,
    key::{FindingKey, cut},
    plan::Caps,
    sighting::{MAX_DIGESTS, MAX_POLICIES, MAX_SAMPLES},
    store::{FindingStore, StoreError},
};

/// Tries of one write against others of the same finding.
const ATTEMPTS: usize = 8;
/// Bounds of the schema.
const MAX_IMAGE: usize = 512;
const MAX_MESSAGE: usize = 1024;
const MAX_EVENT: usize = 128;
const MAX_RESOLUTION: usize = 512;

/// Why a finding stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// How serious it is.
    pub severity: Severity,
    /// Names of the policies that say so.
    pub policies: Vec<String>,
    /// Reference of the image.
    pub image: String,
    /// Its digests.
    pub digests: Vec<ImageDigest>,
    /// All pods that it is about.
    pub pods: Vec<String>,
    /// The nodes they run on.
    pub nodes: Vec<String>,
    /// What was found, and what to do.
    pub message: String,
    /// What it was found by.
    pub event_id: String,
}

/// Why a finding no longer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// What became of its cause.
    pub reason: ResolutionReason,
    /// The same in words.
    pub message: String,
}

/// What an [`open`] or a [`resolve`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Done {
    /// Nothing: it is as it should be.
    Kept,
    /// It is new, or open again.
    Opened,
    /// What it says has changed.
    Changed,
    /// It is resolved.
    Resolved,
    /// The namespace holds as many findings as its policies allow.
    Capped,
    /// The namespace takes no more objects, or the finding is gone.
    Missing,
}

/// Makes the finding one that is open and says this.
///
/// # Errors
/// [`StoreError`]: the next look tries again.
pub async fn open<S: FindingStore>(
    store: &S,
    key: &FindingKey,
    cause: &Cause,
    caps: &Caps,
    now: Timestamp,
) -> Result<Done, StoreError> {
    let (name, home) = (key.name(), key.namespace.as_str());
    let mut fresh = false;
    for _ in 0..ATTEMPTS {
        let found = store.get(home, &name, fresh).await?;
        fresh = true;
        let mut finding = match found {
            Some(finding) => finding,
            // Not asked for anew: a finding that this view does not show yet is there at the next look.
            None if store.count(home, None) >= caps.of(&cause.policies) => return Ok(Done::Capped),
            None => match store.create(&key.object(home)).await {
                Ok(finding) => finding,
                Err(StoreError::Exists) => continue,
                Err(StoreError::NamespaceGone) => return Ok(Done::Missing),
                Err(error) => return Err(error),
            },
        };
        let status = finding.status.get_or_insert_default();
        let done = cause.onto(status, now);
        if done == Done::Kept {
            return Ok(done);
        }
        match store.write_status(&finding).await {
            Ok(()) => return Ok(done),
            Err(StoreError::Conflict | StoreError::Missing) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Conflict)
}

/// Makes the finding one that is resolved.
///
/// # Errors
/// [`StoreError`]: the next look tries again.
pub async fn resolve<S: FindingStore>(
    store: &S,
    namespace: &str,
    name: &str,
    gone: &Gone,
    now: Timestamp,
) -> Result<Done, StoreError> {
    for attempt in 0..ATTEMPTS {
        let Some(mut finding) = store.get(namespace, name, attempt > 0).await? else { return Ok(Done::Missing) };
        let status = finding.status.get_or_insert_default();
        if status.resolved.is_some() {
            return Ok(Done::Kept);
        }
        let message = cut(&gone.message, MAX_RESOLUTION);
        status.resolved = Some(Resolution { at: Time(now), reason: gone.reason, message });
        match store.write_status(&finding).await {
            Ok(()) => return Ok(Done::Resolved),
            Err(StoreError::Conflict) => {}
            Err(StoreError::Missing) => return Ok(Done::Missing),
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Conflict)
}

impl Cause {
    /// Takes in what another policy or pod says of the same thing; the first to say it is the one that is quoted.
    pub fn join(&mut self, other: Self) {
        self.severity = self.severity.max(other.severity);
        let add = |all: &mut Vec<String>, more: Vec<String>| {
            for one in more {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        };
        add(&mut self.policies, other.policies);
        add(&mut self.pods, other.pods);
        add(&mut self.nodes, other.nodes);
        for digest in other.digests {
            if !self.digests.contains(&digest) {
                self.digests.push(digest);
            }
        }
    }

    fn onto(&self, status: &mut RuntimeFindingStatus, now: Timestamp) -> Done {
        let before = status.clone();
        let opens = status.resolved.take().is_some() || status.first_seen.is_none();
        // Of what is told as a sample, what is still true stays: pods come and go, and their order is nobody's.
        let sample = |kept: &mut Vec<String>, all: &[String], max: usize| {
            kept.retain(|one| all.contains(one));
            for one in all {
                if kept.len() < max && !kept.contains(one) {
                    kept.push(one.clone());
                }
            }
        };
        sample(&mut status.policies, &self.policies, MAX_POLICIES);
        sample(&mut status.pods, &self.pods, MAX_SAMPLES);
        sample(&mut status.nodes, &self.nodes, MAX_SAMPLES);
        status.severity = Some(self.severity);
        status.image = Some(cut(&self.image, MAX_IMAGE));
        status.digests = self.digests.iter().take(MAX_DIGESTS).cloned().collect();
        status.evidence = Some(Evidence {
            message: cut(&printable(&self.message), MAX_MESSAGE),
            event_id: cut(&self.event_id, MAX_EVENT),
            ..Evidence::default()
        });
        if opens {
            status.count = status.count.saturating_add(1);
        }
        if *status == before {
            return Done::Kept;
        }
        status.first_seen.get_or_insert(Time(now));
        status.last_seen = Some(Time(now));
        if opens { Done::Opened } else { Done::Changed }
    }
}
