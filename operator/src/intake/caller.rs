//! Who calls: what a token proves, as the API server says.

use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use zastava_crds::wire::report::{AUDIENCE, BatchMark};

use crate::finding::attribute::Sender;

/// Keys of the claims that the API server writes into a bound token
/// (<https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// Bytes of a reporter at most, as the schema of a mark says.
const MAX_REPORTER: usize = 128;

/// User names of those who may report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccounts {
    observer: String,
    webhook: String,
}

impl ServiceAccounts {
    /// The observer's account in its namespace, the webhook's in the release's.
    pub fn of(release_namespace: &str, observer_namespace: &str) -> Self {
        Self {
            observer: format!("system:serviceaccount:{observer_namespace}:zastava-observer"),
            webhook: format!("system:serviceaccount:{release_namespace}:zastava-webhook"),
        }
    }
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denial {
    /// There is none, or it is no bearer token.
    #[error("no bearer token was sent")]
    NoToken,
    /// The API server does not know it.
    #[error("the API server does not accept the token: {0}")]
    NotAuthenticated(String),
    /// It is for somebody else.
    #[error("the token is not for the audience {AUDIENCE}")]
    WrongAudience,
    /// Its account may not report.
    #[error("{0} may not report: only the observer's and the webhook's service account may")]
    Stranger(String),
    /// It is not bound to a pod on a node.
    #[error("the token lacks the claim {0}: it must be bound to a running pod")]
    Unbound(&'static str),
}

impl Denial {
    /// The closed class of this error, for metrics.
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::NotAuthenticated(_) => "not_authenticated",
            Self::WrongAudience => "wrong_audience",
            Self::Stranger(_) => "stranger",
            Self::Unbound(_) => "unbound",
        }
    }

    /// Whether another token of the same account could do (401), or the account itself may not (403).
    pub(super) fn is_about_the_token(&self) -> bool {
        !matches!(self, Self::Stranger(_))
    }
}

/// Who calls, by claims that the API server signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The observer of a node.
    Observer {
        /// Name of its node.
        node: String,
        /// UID of its node.
        node_uid: String,
    },
    /// A replica of the webhook.
    Webhook {
        /// UID of its pod.
        pod_uid: String,
    },
}

impl Caller {
    /// From the API server's answer to a review.
    pub(super) fn of(status: TokenReviewStatus, accounts: &ServiceAccounts) -> Result<Self, Denial> {
        if status.authenticated != Some(true) {
            let why = status.error.unwrap_or_else(|| "it is unknown, expired or its pod is gone".to_owned());
            return Err(Denial::NotAuthenticated(why.chars().take(256).collect()));
        }
        // An API server that does not know of audiences would answer without any.
        if !status.audiences.unwrap_or_default().iter().any(|audience| audience == AUDIENCE) {
            return Err(Denial::WrongAudience);
        }
        let user = status.user.unwrap_or_default();
        let name = user.username.clone().unwrap_or_default();
        if name == accounts.observer {
            claim(&user, POD_UID)?;
            Ok(Self::Observer { node: claim(&user, NODE_NAME)?, node_uid: claim(&user, NODE_UID)? })
        } else if name == accounts.webhook {
            Ok(Self::Webhook { pod_uid: claim(&user, POD_UID)? })
        } else {
            Err(Denial::Stranger(name.chars().take(256).collect()))
        }
    }

    /// The reporter that its marks must name, without a journal.
    pub(super) fn reporter(&self) -> String {
        match self {
            Self::Observer { node_uid, .. } => format!("node:{node_uid}"),
            Self::Webhook { pod_uid } => format!("pod:{pod_uid}"),
        }
    }

    /// Whether a mark is this caller's own.
    pub(super) fn owns(&self, mark: &BatchMark) -> bool {
        let base = mark.reporter.split_once('/').map_or(mark.reporter.as_str(), |(base, _)| base);
        base == self.reporter()
            && mark.reporter.len() <= MAX_REPORTER
            && !mark.reporter.chars().any(char::is_control)
            && mark.seq > 0
    }

    /// The same as the findings know it.
    pub(super) fn sender(&self) -> Sender {
        match self {
            Self::Observer { node, .. } => Sender::Observer { node: node.clone() },
            Self::Webhook { .. } => Sender::Webhook,
        }
    }
}

fn claim(user: &UserInfo, key: &'static str) -> Result<String, Denial> {
    let values = user.extra.as_ref().and_then(|extra| extra.get(key));
    values.and_then(|values| values.first()).filter(|v| !v.is_empty()).cloned().ok_or(Denial::Unbound(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::fixtures::{accounts, observer_review, webhook_review};

    #[test]
    fn what_a_token_does_not_prove_is_not_believed() {
        let caller = |change: fn(&mut TokenReviewStatus)| {
            let mut status = observer_review("n1");
            change(&mut status);
            Caller::of(status, &accounts())
        };
        assert_eq!(caller(|_| {}), Ok(Caller::Observer { node: "n1".into(), node_uid: "uid-n1".into() }));
        assert!(matches!(caller(|s| s.authenticated = Some(false)), Err(Denial::NotAuthenticated(_))));
        assert!(matches!(caller(|s| s.authenticated = None), Err(Denial::NotAuthenticated(_))));
        assert_eq!(
            caller(|s| s.audiences = Some(vec!["https://kubernetes.default.svc".into()])),
            Err(Denial::WrongAudience)
        );
        assert_eq!(caller(|s| s.audiences = None), Err(Denial::WrongAudience));
        for key in [NODE_NAME, NODE_UID, POD_UID] {
            let mut status = observer_review("n1");
            status.user.as_mut().unwrap().extra.as_mut().unwrap().remove(key);
            assert_eq!(Caller::of(status, &accounts()), Err(Denial::Unbound(key)));
        }
        // The same name in another namespace is another account.
        for stranger in
            ["system:serviceaccount:shop:zastava-observer", "system:serviceaccount:zastava-observer:default", ""]
        {
            let mut status = observer_review("n1");
            status.user.as_mut().unwrap().username = Some(stranger.to_owned());
            assert_eq!(Caller::of(status, &accounts()), Err(Denial::Stranger(stranger.to_owned())));
        }
    }

    #[test]
    fn a_mark_is_owned_by_whom_its_token_names() {
        let observer = Caller::of(observer_review("n1"), &accounts()).unwrap();
        let webhook = Caller::of(webhook_review("p1"), &accounts()).unwrap();
        let mark = |reporter: &str, seq| BatchMark { reporter: reporter.to_owned(), seq };
        assert!(observer.owns(&mark("node:uid-n1", 1)) && observer.owns(&mark("node:uid-n1/journal-7", 1)));
        assert!(webhook.owns(&mark("pod:p1/abc", 3)));
        for bad in ["node:uid-n2", "node:uid-n1x", "pod:p1", "uid-n1", "", "node:uid-n1/\u{7}"] {
            assert!(!observer.owns(&mark(bad, 1)), "{bad:?}");
        }
        assert!(!observer.owns(&mark("node:uid-n1", 0)));
        assert!(!observer.owns(&mark(&format!("node:uid-n1/{}", "x".repeat(128)), 1)));
        assert!(!webhook.owns(&mark("node:uid-n1", 1)));
    }
}
