//! The question to the API server: whose token is this?

use std::{future::Future, time::Duration};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use zastava_crds::wire::report::AUDIENCE;

const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// The API server could not be asked: nothing is known of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tokens can't be checked: {0}")]
pub(super) struct ReviewUnavailable(pub(super) String);

/// Who tells whose a token is.
pub(super) trait Reviewer: Send + Sync + 'static {
    /// Asks about a token, for the intake's audience.
    fn review(&self, token: &str) -> impl Future<Output = Result<TokenReviewStatus, ReviewUnavailable>> + Send;
}

/// The API server.
pub(super) struct ApiReviewer(Api<TokenReview>);

impl ApiReviewer {
    pub(super) fn new(client: Client) -> Self {
        Self(Api::all(client))
    }
}

impl Reviewer for ApiReviewer {
    async fn review(&self, token: &str) -> Result<TokenReviewStatus, ReviewUnavailable> {
        let review = TokenReview {
            spec: TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) },
            ..TokenReview::default()
        };
        match tokio::time::timeout(REVIEW_TIMEOUT, self.0.create(&PostParams::default(), &review)).await {
            Ok(Ok(review)) => Ok(review.status.unwrap_or_default()),
            // Without the request: it holds the token.
            Ok(Err(kube::Error::Api(status))) => Err(ReviewUnavailable(status.message.clone())),
            Ok(Err(_)) => Err(ReviewUnavailable("the API server does not answer".to_owned())),
            Err(_) => Err(ReviewUnavailable("no answer in time".to_owned())),
        }
    }
}
