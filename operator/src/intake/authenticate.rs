//! Tokens, each asked about once in a while: remembered by hash, never as themselves.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use moka::{Expiry, future::Cache};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::{
    caller::{Caller, Denial, ServiceAccounts},
    review::{ReviewUnavailable, Reviewer},
};

/// How long an accepted token is believed without asking again: as long as a deleted pod's token goes on.
const ACCEPTED_FOR: Duration = Duration::from_mins(1);
/// How long a refused one is not asked about again.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Tokens that are remembered at most.
const MAX_TOKENS: u64 = 20_000;
/// Longest token: the API server's own bound on one is of this size.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Reviews that are under way at once; strangers must not make the API server's day long.
const REVIEWS_AT_ONCE: usize = 16;

type Judged = Result<Caller, Denial>;

struct Lifetime;

impl Expiry<[u8; 32], Judged> for Lifetime {
    fn expire_after_create(&self, _: &[u8; 32], judged: &Judged, _: std::time::Instant) -> Option<Duration> {
        Some(if judged.is_ok() { ACCEPTED_FOR } else { REFUSED_FOR })
    }
}

/// Why nobody is known to call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoCaller {
    /// The token is not accepted.
    #[error(transparent)]
    Denied(Denial),
    /// It could not be asked about.
    #[error(transparent)]
    Unavailable(ReviewUnavailable),
}

impl NoCaller {
    /// The closed class of this error, for metrics.
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::Denied(denial) => denial.category(),
            Self::Unavailable(_) => "review_unavailable",
        }
    }
}

/// From a request's token to its caller.
pub(super) struct Authenticator<R> {
    reviewer: R,
    accounts: ServiceAccounts,
    known: Cache<[u8; 32], Judged>,
    turns: Semaphore,
}

impl<R: Reviewer> Authenticator<R> {
    pub(super) fn new(reviewer: R, accounts: ServiceAccounts) -> Self {
        let known = Cache::builder().max_capacity(MAX_TOKENS).expire_after(Lifetime).build();
        Self { reviewer, accounts, known, turns: Semaphore::new(REVIEWS_AT_ONCE) }
    }

    /// The caller of a request. Equal tokens in flight share one question.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, NoCaller> {
        let token = bearer(headers).ok_or(NoCaller::Denied(Denial::NoToken))?;
        let key: [u8; 32] = Sha256::digest(token).into();
        let ask = async {
            let _turn = self.turns.acquire().await;
            let status = self.reviewer.review(token).await?;
            Ok::<Judged, ReviewUnavailable>(Caller::of(status, &self.accounts))
        };
        match self.known.try_get_with(key, ask).await {
            Ok(judged) => judged.map_err(NoCaller::Denied),
            Err(unavailable) => Err(NoCaller::Unavailable(Arc::unwrap_or_clone(unavailable))),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (1..=MAX_TOKEN_BYTES).contains(&token.len())).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::fixtures::{Reviews, accounts, observer_review};

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())])
    }

    #[tokio::test]
    async fn equal_tokens_share_one_question_and_failures_are_not_remembered() {
        let reviews = Reviews::default();
        let authenticator = Authenticator::new(reviews.clone(), accounts());
        reviews.away(true);
        assert!(matches!(authenticator.caller(&headers("Bearer n1")).await, Err(NoCaller::Unavailable(_))));
        reviews.away(false);
        reviews.knows("n1", observer_review("n1"));
        let asked = reviews.asked();
        let bearer = headers("Bearer n1");
        let (a, b) = tokio::join!(authenticator.caller(&bearer), authenticator.caller(&bearer));
        assert!(a.is_ok() && b.is_ok());
        assert!(authenticator.caller(&headers("bearer n1")).await.is_ok());
        assert_eq!(reviews.asked() - asked, 1);
        for _ in 0..3 {
            assert!(matches!(authenticator.caller(&headers("Bearer x")).await, Err(NoCaller::Denied(_))));
        }
        assert_eq!(reviews.asked() - asked, 2);
    }

    #[tokio::test]
    async fn what_is_no_bearer_token_is_never_asked_about() {
        let reviews = Reviews::default();
        let authenticator = Authenticator::new(reviews.clone(), accounts());
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
        for bad in ["", "Bearer", "Bearer ", "Basic abc", &long] {
            assert_eq!(authenticator.caller(&headers(bad)).await, Err(NoCaller::Denied(Denial::NoToken)), "{bad}");
        }
        assert_eq!(authenticator.caller(&HeaderMap::new()).await, Err(NoCaller::Denied(Denial::NoToken)));
        assert_eq!(reviews.asked(), 0);
    }

    #[test]
    fn an_accepted_token_is_asked_about_again_within_a_minute_and_a_refused_one_soon() {
        let now = std::time::Instant::now();
        let of = |judged: Judged| Lifetime.expire_after_create(&[0; 32], &judged, now).unwrap();
        assert!(of(Ok(Caller::Webhook { pod_uid: "p".to_owned() })) <= Duration::from_mins(1));
        assert!(of(Err(Denial::WrongAudience)) <= Duration::from_secs(10));
    }
}
