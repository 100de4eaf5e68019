//! Tokens, batches and an intake, for tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::Router;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zastava_crds::wire::{
    report::{AUDIENCE, BatchMark, Report, ReportBatch},
    sync::RuleSet,
};

use super::{
    authenticate::Authenticator,
    caller::ServiceAccounts,
    holds::Holds,
    metrics::IntakeMetrics,
    review::{ReviewUnavailable, Reviewer},
    router::{Intake, Turns},
};
use crate::{
    finding::{
        Caps, FindingMetrics, Merger,
        model::{pods::FakePods, records, store::MemoryStore},
    },
    leader::Leadership,
    nodes::{NodeRegistry, RuleBook},
};

pub(super) fn accounts() -> ServiceAccounts {
    ServiceAccounts::of("zastava-system", "zastava-observer")
}

fn review(account: &str, claims: &[(&str, String)]) -> TokenReviewStatus {
    let extra: BTreeMap<_, _> = claims
        .iter()
        .map(|(claim, value)| (format!("authentication.kubernetes.io/{claim}"), vec![value.clone()]))
        .collect();
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec![AUDIENCE.to_owned()]),
        user: Some(UserInfo { username: Some(account.to_owned()), extra: Some(extra), ..UserInfo::default() }),
        error: None,
    }
}

/// What the API server says of the token of a node's observer.
pub(super) fn observer_review(node: &str) -> TokenReviewStatus {
    let claims =
        [("node-name", node.to_owned()), ("node-uid", format!("uid-{node}")), ("pod-uid", format!("o-{node}"))];
    review("system:serviceaccount:zastava-observer:zastava-observer", &claims)
}

/// What the API server says of a webhook's token.
pub(super) fn webhook_review(pod_uid: &str) -> TokenReviewStatus {
    review("system:serviceaccount:zastava-system:zastava-webhook", &[("pod-uid", pod_uid.to_owned())])
}

/// A double of the API server's reviews: it knows some tokens, and counts the questions.
#[derive(Clone, Default)]
pub(super) struct Reviews {
    known: Arc<Mutex<HashMap<String, TokenReviewStatus>>>,
    asked: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
}

impl Reviews {
    pub(super) fn knows(&self, token: &str, status: TokenReviewStatus) {
        self.known.lock().unwrap().insert(token.to_owned(), status);
    }

    pub(super) fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Reviewer for Reviews {
    async fn review(&self, token: &str) -> Result<TokenReviewStatus, ReviewUnavailable> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if self.away.load(Ordering::SeqCst) {
            return Err(ReviewUnavailable("away".to_owned()));
        }
        Ok(self.known.lock().unwrap().get(token).cloned().unwrap_or_default())
    }
}

pub(super) fn drift(path: &str) -> Report {
    records::drift("shop", "p", path)
}

pub(super) fn batch(reporter: &str, seq: u64, records: Vec<Report>) -> ReportBatch {
    ReportBatch { mark: BatchMark { reporter: reporter.to_owned(), seq }, records }
}

/// An intake whose every other room is a double.
pub(super) struct House {
    pub(super) router: Router,
    pub(super) reviews: Reviews,
    pub(super) store: MemoryStore,
    pub(super) pods: FakePods,
    pub(super) nodes: NodeRegistry,
    pub(super) rules: watch::Sender<Option<Arc<RuleSet>>>,
    pub(super) ending: CancellationToken,
}

impl House {
    /// With tokens `n1` and `n2` of observers, `w1` of a webhook and `stranger` of somebody else.
    pub(super) fn over(leadership: Leadership) -> Self {
        let reviews = Reviews::default();
        reviews.knows("n1", observer_review("n1"));
        reviews.knows("n2", observer_review("n2"));
        reviews.knows("w1", webhook_review("w1"));
        reviews.knows("stranger", review("system:serviceaccount:shop:default", &[("pod-uid", "x".to_owned())]));
        let (store, pods, nodes) = (MemoryStore::default(), FakePods::default(), NodeRegistry::default());
        let (book, rules) = RuleBook::fixed(RuleSet { hash: "sha256:1".to_owned(), ..RuleSet::default() });
        let ending = CancellationToken::new();
        let intake = Intake {
            authenticator: Authenticator::new(reviews.clone(), accounts()),
            merger: Merger::new(
                store.clone(),
                pods.clone(),
                nodes.clone(),
                Caps::new(|_| 100),
                "zastava-system".to_owned(),
                FindingMetrics::default(),
            ),
            leadership,
            nodes: nodes.clone(),
            rules: book,
            metrics: IntakeMetrics::default(),
            ending: ending.clone(),
            turns: Turns::default(),
            holds: Holds::default(),
            encoded: Mutex::default(),
        };
        Self { router: intake.router(), reviews, store, pods, nodes, rules, ending }
    }
}
