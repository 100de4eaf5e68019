//! The intake as the operator runs it.

use std::net::SocketAddr;

use kube::Client;
use tokio_util::sync::CancellationToken;
use zastava_core::tls::{ServerTls, TlsError};

use super::{
    authenticate::Authenticator, caller::ServiceAccounts, metrics::IntakeMetrics, review::ApiReviewer, router::Intake,
};
use crate::{
    finding::{FindingMetrics, Merger, caps, store::ApiStore},
    leader::Leadership,
    nodes::{NodeRegistry, RuleBook},
    pods::{PodIndex, PodLookup},
    policy::Policies,
};

/// The rooms of the operator that the intake works with.
#[derive(Clone)]
pub struct Rooms {
    /// Where tokens and never-seen pods are asked about.
    pub client: Client,
    /// The release's namespace: findings without a home lie there.
    pub namespace: String,
    /// Who may report.
    pub accounts: ServiceAccounts,
    /// Only the leader takes anything.
    pub leadership: Leadership,
    /// How many findings a namespace may hold.
    pub policies: Policies,
    /// What observers are to hold.
    pub rules: RuleBook,
    /// What observers say of themselves; emptied here at the beginning of each term.
    pub nodes: NodeRegistry,
    /// Who runs where.
    pub pods: PodIndex,
    /// Where findings are kept ([`crate::finding::start`]).
    pub findings: ApiStore,
    /// Counts of findings.
    pub finding_metrics: FindingMetrics,
    /// Counts of requests.
    pub metrics: IntakeMetrics,
}

/// Serves the intake on `address` until `token` is cancelled, from the first leaf that `tls` publishes.
///
/// # Errors
/// [`TlsError::Listen`] when the port can't be had.
pub async fn serve(
    rooms: Rooms,
    address: SocketAddr,
    tls: &ServerTls,
    token: &CancellationToken,
) -> Result<(), TlsError> {
    tokio::spawn(token.clone().run_until_cancelled_owned(begin_terms(rooms.leadership.clone(), rooms.nodes.clone())));
    let merger = Merger::new(
        rooms.findings,
        PodLookup::new(rooms.client.clone(), rooms.pods),
        rooms.nodes.clone(),
        caps(rooms.policies),
        rooms.namespace,
        rooms.finding_metrics,
    );
    let intake = Intake {
        authenticator: Authenticator::new(ApiReviewer::new(rooms.client), rooms.accounts),
        merger,
        leadership: rooms.leadership,
        nodes: rooms.nodes,
        rules: rooms.rules,
        metrics: rooms.metrics,
        ending: token.clone(),
        turns: super::router::Turns::default(),
        holds: super::holds::Holds::default(),
        encoded: std::sync::Mutex::default(),
    };
    tls.serve(intake.router(), address, token).await
}

/// What nodes said in another term, to another leader in between, is no longer true.
async fn begin_terms(leadership: Leadership, nodes: NodeRegistry) {
    let mut term = 0;
    loop {
        term = leadership.next_term(term).await;
        nodes.begin();
    }
}
