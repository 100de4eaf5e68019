//! The embedded delta scan: a drifted file held against the signed bill of materials of its image.
//!
//! Order of data: a Drift finding → [`decide`] (pure) → `status.scan` Pending, in the finding itself → [`source`] → the
//! verdict, in the finding itself. All that a scan needs is in its finding, so a restart or another leader goes on where
//! the last one stopped. A verdict speaks about that workload on that node; it changes admission for nobody.

mod decide;
mod delta;
mod keys;
mod outcome;
mod registry;
mod source;
mod terms;
mod worker;
mod write;

#[cfg(test)]
mod tests;

use kube::Client;
use tokio_util::sync::CancellationToken;
use zastava_verify::verifier::Verifier;

use self::{registry::RegistrySource, worker::Worker};
use crate::{
    finding::{FindingMetrics, store::ApiStore},
    leader::Leadership,
    policy::Policies,
};

/// The rooms of the operator that scans work with.
#[derive(Clone)]
pub struct Rooms {
    /// Where keys, credentials and the platforms of nodes are read.
    pub client: Client,
    /// The release's namespace: keys and credentials lie there.
    pub namespace: String,
    /// Only the leader scans.
    pub leadership: Leadership,
    /// What asks for a scan, and who must have signed.
    pub policies: Policies,
    /// Where findings are kept ([`crate::finding::start`]).
    pub findings: ApiStore,
    /// Counts of scans.
    pub metrics: FindingMetrics,
    /// The engine, over the configured registries.
    pub verifier: Verifier,
    /// Secrets of type dockerconfigjson in the release's namespace: `registries.configured[].pullSecret`.
    pub pull_secrets: Vec<String>,
}

/// Starts the worker; it ends with `token`.
pub fn start(rooms: Rooms, token: &CancellationToken) {
    let source =
        RegistrySource::new(rooms.client, rooms.namespace, rooms.policies.clone(), rooms.verifier, rooms.pull_secrets);
    let worker = Worker::new(rooms.findings, source, rooms.metrics);
    let run = worker::run(worker, rooms.leadership, rooms.policies);
    tokio::spawn(token.clone().run_until_cancelled_owned(run));
}
