//! Who we are, told to a registry: Basic, or a bearer token fetched once and shared until it expires
//! (<https://distribution.github.io/distribution/spec/auth/token/>).

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::FutureExt as _;
use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_auth::ChallengeRef;
use moka::Expiry;
use reqwest::{Method, Request, Url};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{Repository, Scope, fetch, requests::What};
use crate::{
    answer::{Unknown, UnknownCause},
    credentials::Fresh,
    keychain::Credential,
};

/// A registry that names no lifetime means 60 s.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);
/// A token is given up this long before it ends, so that it doesn't end on its way.
const MARGIN: Duration = Duration::from_secs(10);
const MAX_LIFETIME: Duration = Duration::from_hours(1);
const MAX_TOKEN_ANSWER: usize = 128 * 1024;

/// Tokens are shared by those who hold the same credentials for the same repository, and by nobody else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    base: String,
    scope: Scope,
    /// Which of the credentials, in their order.
    credential: usize,
}

/// A header that a registry accepts.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    lifetime: Duration,
}

pub(super) struct TokenLifetime;

impl Expiry<TokenKey, Authorization> for TokenLifetime {
    fn expire_after_create(&self, _: &TokenKey, value: &Authorization, _: Instant) -> Option<Duration> {
        Some(value.lifetime)
    }
}

/// What a 401 asks for.
enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Repository {
    fn token_key(&self, credential: usize) -> TokenKey {
        TokenKey { base: self.base.clone(), scope: self.scope.clone(), credential }
    }

    /// The header made of these credentials, if it is known and has not expired.
    pub(super) async fn known_authorization(&self, credential: usize) -> Option<Authorization> {
        self.registry.inner.known.get(&self.token_key(credential)).await
    }

    /// Forgets a header that was not accepted after all.
    pub(super) async fn forget_authorization(&self, credential: usize) {
        self.registry.inner.known.invalidate(&self.token_key(credential)).await;
    }

    /// A header that answers the challenge of a 401 with these credentials; equal requests in flight share one token.
    pub(super) async fn authorize(&self, refused: &HeaderMap, credential: usize) -> Result<Authorization, Unknown> {
        let challenge = self.challenge(refused)?;
        self.registry
            .inner
            .known
            .try_get_with(self.token_key(credential), self.answer(&challenge, credential).boxed())
            .await
            .map_err(|shared| (*shared).clone())
    }

    /// How many credentials there are, those of a cloud included.
    pub(super) fn credentials_to_try(&self) -> usize {
        self.credentials.len() + usize::from(self.exchanged.is_some())
    }

    fn challenge(&self, headers: &HeaderMap) -> Result<Challenge, Unknown> {
        let unauthorized =
            |what: &str| Unknown::new(UnknownCause::Unauthorized, format!("{} answered 401 {what}", self.host));
        let mut basic = false;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let text = value.to_str().map_err(|_| unauthorized("with an unreadable challenge"))?;
            for challenge in
                http_auth::parse_challenges(text).map_err(|_| unauthorized("with an unreadable challenge"))?
            {
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let realm = parameter(&challenge, "realm").ok_or_else(|| unauthorized("without a realm"))?;
                    let realm = Url::parse(&realm).map_err(|_| unauthorized("with an unreadable realm"))?;
                    return Ok(Challenge::Bearer { realm, service: parameter(&challenge, "service") });
                }
                basic |= challenge.scheme.eq_ignore_ascii_case("basic");
            }
        }
        if basic { Ok(Challenge::Basic) } else { Err(unauthorized("without a challenge")) }
    }

    async fn answer(&self, challenge: &Challenge, credential: usize) -> Result<Authorization, Unknown> {
        if let Some(credential) = self.credentials.get(credential) {
            return self.answer_with(challenge, Some(credential)).await;
        }
        let Some(held) = &self.exchanged else { return self.answer_with(challenge, None).await };
        // What a cloud gave for this registry is told to nobody else, whatever realm the registry names.
        if let Challenge::Bearer { realm, .. } = challenge
            && Url::parse(&self.base).map(|base| base.origin()) != Ok(realm.origin())
        {
            return Err(self.unauthorized("its token realm is on another host, where exchanged credentials don't go"));
        }
        let Fresh { credential, ends, .. } = held.credential().await?;
        let mut authorization = self.answer_with(challenge, Some(&credential)).await?;
        authorization.lifetime = authorization.lifetime.min(ends.duration_since(tokio::time::Instant::now()));
        Ok(authorization)
    }

    async fn answer_with(
        &self,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<Authorization, Unknown> {
        match (challenge, credential) {
            (Challenge::Basic, Some(Credential::Basic { .. })) => {
                let header = basic(credential).ok_or_else(|| self.unauthorized("these credentials can't be sent"))?;
                Ok(Authorization { header, lifetime: MAX_LIFETIME })
            }
            (Challenge::Basic, _) => Err(self.unauthorized("a user name and password are needed")),
            (Challenge::Bearer { realm, service }, credential) => {
                self.fetch_token(realm.clone(), service.as_deref(), credential).await
            }
        }
    }

    async fn fetch_token(
        &self,
        realm: Url,
        service: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Authorization, Unknown> {
        // A registry under TLS has no say in sending credentials over plain HTTP.
        if realm.scheme() != "https" && self.base.starts_with("https:") {
            return Err(self.unauthorized("its token realm is not under TLS"));
        }
        let realm_host = realm.host_str().unwrap_or_default().to_owned();
        let scope = format!("repository:{}:pull", self.name);
        let mut parameters = realm.clone();
        {
            let mut pairs = parameters.query_pairs_mut();
            if let Some(service) = service {
                pairs.append_pair("service", service);
            }
            pairs.append_pair("scope", &scope);
            if let Some(Credential::IdentityToken(token)) = credential {
                pairs.append_pair("grant_type", "refresh_token");
                pairs.append_pair("client_id", "zastava");
                pairs.append_pair("refresh_token", token.expose_secret());
            }
        }
        let request = if matches!(credential, Some(Credential::IdentityToken(_))) {
            let mut request = Request::new(Method::POST, realm);
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(CONTENT_TYPE, form);
            *request.body_mut() = Some(parameters.query().unwrap_or_default().to_owned().into());
            request
        } else {
            let mut request = Request::new(Method::GET, parameters);
            if let Some(header) = basic(credential) {
                request.headers_mut().insert(AUTHORIZATION, header);
            }
            request
        };
        let sent = self.client.send(request).boxed().await;
        self.registry.inner.requests.count(What::Token, &sent);
        let mut response = sent.map_err(|error| fetch::unanswered(&realm_host, error))?;
        let status = response.status();
        if status.as_u16() == 429 {
            return Err(self.paused(status, response.headers()));
        }
        if !status.is_success() {
            let cause = if status.is_client_error() { UnknownCause::Unauthorized } else { UnknownCause::RegistryError };
            return Err(Unknown::new(cause, format!("token service {realm_host} of {} answered {status}", self.host)));
        }
        let body = fetch::bounded(&mut response, &realm_host, MAX_TOKEN_ANSWER).await?;
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| {
            Unknown::new(UnknownCause::RegistryError, format!("token service {realm_host} answered no token"))
        })?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| {
            Unknown::new(UnknownCause::RegistryError, format!("token service {realm_host} answered no token"))
        })?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
            Unknown::new(UnknownCause::RegistryError, format!("token service {realm_host} answered an unusable token"))
        })?;
        header.set_sensitive(true);
        let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
        let lifetime = lifetime.min(MAX_LIFETIME).saturating_sub(MARGIN).max(Duration::from_secs(1));
        Ok(Authorization { header, lifetime })
    }

    fn unauthorized(&self, why: &str) -> Unknown {
        Unknown::new(UnknownCause::Unauthorized, format!("{} answered 401: {why}", self.host))
    }
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
}

fn basic(credential: Option<&Credential>) -> Option<HeaderValue> {
    let Some(Credential::Basic { username, password }) = credential else { return None };
    let text = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
    let mut header = HeaderValue::try_from(format!("Basic {text}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}
