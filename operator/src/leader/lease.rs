//! The lease itself: read, judge, replace under its resourceVersion.

use std::{collections::BTreeMap, future::Future, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use tokio::time::Instant;

use super::{ADDRESS_ANNOTATION, Holder, LEASE_NAME};
use crate::FIELD_MANAGER;

/// Why the lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another replica wrote first.
    #[error("another replica wrote the lease first")]
    Conflict,
    /// The API server refused or did not answer.
    #[error("lease {LEASE_NAME}: {0}")]
    Api(#[from] Box<kube::Error>),
}

impl LeaseError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Api(_) => "api",
        }
    }
}

impl From<kube::Error> for LeaseError {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.is_conflict() => Self::Conflict,
            _ => Self::Api(Box::new(error)),
        }
    }
}

/// Where the lease is kept: the API server, or a double in tests.
pub(super) trait LeaseStore: Send + Sync + 'static {
    /// The lease as it is, made without a holder where there is none.
    fn read(&self) -> impl Future<Output = Result<Lease, LeaseError>> + Send;
    /// Replaces it, if its resourceVersion still is the stored one.
    fn replace(&self, lease: &Lease) -> impl Future<Output = Result<Lease, LeaseError>> + Send;
}

/// The lease in the API server.
pub struct ApiLease(Api<Lease>);

impl ApiLease {
    /// The operator's lease in `namespace`.
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }
}

impl LeaseStore for ApiLease {
    async fn read(&self) -> Result<Lease, LeaseError> {
        if let Some(lease) = self.0.get_opt(LEASE_NAME).await? {
            return Ok(lease);
        }
        // An apply without spec creates and never overwrites; unlike a POST it is authorised with its name.
        let empty = serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE_NAME},
        });
        Ok(self.0.patch(LEASE_NAME, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(&empty)).await?)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        Ok(self.0.replace(LEASE_NAME, &params, lease).await?)
    }
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The lease was written with this replica as its holder.
    Leading,
    /// Somebody else holds it, or nobody does yet.
    Following(Option<Holder>),
}

/// One replica's view of the lease.
pub(super) struct Candidate {
    me: Holder,
    duration: Duration,
    /// The last version seen of another's lease, and when it was first seen: no clock is compared with another machine's.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    pub(super) fn new(me: Holder, duration: Duration) -> Self {
        Self { me, duration, seen: None }
    }

    /// Renews, takes what is free or expired, or follows.
    pub(super) async fn contend<S: LeaseStore>(&mut self, store: &S) -> Result<Standing, LeaseError> {
        let lease = store.read().await?;
        let holder = holder_of(&lease);
        let mine = holder.as_ref().is_some_and(|h| h.name == self.me.name);
        if !mine && !self.may_take(&lease, holder.as_ref()) {
            return Ok(Standing::Following(holder));
        }
        match store.replace(&self.written(lease, mine)).await {
            Ok(_) => {
                self.seen = None;
                Ok(Standing::Leading)
            }
            Err(LeaseError::Conflict) => Ok(Standing::Following(None)),
            Err(error) => Err(error),
        }
    }

    /// Gives the lease back, so that another replica need not wait for its end.
    pub(super) async fn release<S: LeaseStore>(&self, store: &S) -> Result<(), LeaseError> {
        let mut lease = store.read().await?;
        if holder_of(&lease).is_none_or(|h| h.name != self.me.name) {
            return Ok(());
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        store.replace(&lease).await.map(|_| ())
    }

    fn may_take(&mut self, lease: &Lease, holder: Option<&Holder>) -> bool {
        if holder.is_none() {
            return true;
        }
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() >= self.duration,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn written(&self, mut lease: Lease, mine: bool) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = lease.spec.unwrap_or_default();
        let acquired = old.acquire_time.filter(|_| mine).unwrap_or_else(|| now.clone());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.me.name.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            acquire_time: Some(acquired),
            renew_time: Some(now),
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!mine)),
            ..LeaseSpec::default()
        });
        let annotations = lease.metadata.annotations.get_or_insert_with(BTreeMap::new);
        match &self.me.address {
            Some(address) => annotations.insert(ADDRESS_ANNOTATION.to_owned(), address.clone()),
            None => annotations.remove(ADDRESS_ANNOTATION),
        };
        lease
    }
}

fn holder_of(lease: &Lease) -> Option<Holder> {
    let name = lease.spec.as_ref()?.holder_identity.clone().filter(|name| !name.is_empty())?;
    let address = lease.metadata.annotations.as_ref().and_then(|a| a.get(ADDRESS_ANNOTATION)).cloned();
    Some(Holder { name, address })
}
