//! Getting bytes: bounded in size and time, and never believed before they hash to their digest.

use std::{iter, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use reqwest::{Method, Request, Response, StatusCode, Url};
use zastava_core::egress::EgressError;
use zastava_crds::digest::Sha256Digest;

use super::{
    Content, MAX_MANIFEST, Repository, Scope,
    auth::Authorization,
    pause,
    requests::What,
    transport::{Page, Question},
};
use crate::answer::{Answer, Unknown, UnknownCause};

/// Content up to this is kept in memory.
const SMALL: u64 = 256 * 1024;
/// A pause a registry asks for is kept up to this.
const MAX_PAUSE: Duration = Duration::from_secs(30);
const DEFAULT_PAUSE: Duration = Duration::from_secs(2);
/// One more attempt after a broken connection or a gateway's error.
const RETRY_AFTER_FAULT: Duration = Duration::from_millis(150);

/// Content is shared by those who hold the same credentials for the same repository, and by nobody else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ContentKey {
    base: String,
    scope: Scope,
    digest: Sha256Digest,
}

/// Why there is no content; shared by all who waited for it.
#[derive(Clone)]
enum Missing {
    None,
    Unknown(Unknown),
}

impl Repository {
    /// The manifest a tag stands for now. Its digest is that of the bytes; a header that says otherwise makes it unknown.
    pub(crate) async fn manifest_by_tag(&self, tag: &str) -> Answer<Content> {
        match self.get_manifest(tag).await {
            Ok(content) => Answer::Found(content),
            Err(Missing::None) => Answer::None,
            Err(Missing::Unknown(unknown)) => Answer::Unknown(unknown),
        }
    }

    /// The manifest with this digest.
    pub(crate) async fn manifest(&self, digest: &Sha256Digest) -> Answer<Content> {
        self.shared(digest, async {
            let content = self.get_manifest(digest.as_str()).await?;
            self.hashes_to(content, digest)
        })
        .await
    }

    /// Keeps content that was read by tag for those who ask by digest.
    pub(crate) async fn remember(&self, content: &Content) {
        let key = self.content_key(&content.digest);
        self.registry.inner.content.insert(key, content.clone()).await;
    }

    /// The blob with this digest and size.
    pub(crate) async fn blob(&self, digest: &Sha256Digest, size: u64) -> Answer<Bytes> {
        let get = async {
            let limit = usize::try_from(size).map_err(|_| Missing::Unknown(self.too_large("a blob")))?;
            let url = self.url(&format!("blobs/{digest}"))?;
            let (_, body) = self.get(url, What::Blob, limit).await?;
            let digest_of_body = Sha256Digest::of(&body);
            self.hashes_to(Content { digest: digest_of_body, media_type: None, body }, digest)
        };
        let content = if size <= SMALL { self.shared(digest, get).await } else { answer(get.await) };
        content.map(|content| content.body)
    }

    async fn shared(
        &self,
        digest: &Sha256Digest,
        get: impl Future<Output = Result<Content, Missing>> + Send,
    ) -> Answer<Content> {
        let shared = self.registry.inner.content.try_get_with(self.content_key(digest), get.boxed()).await;
        answer(shared.map_err(|missing| (*missing).clone()))
    }

    fn content_key(&self, digest: &Sha256Digest) -> ContentKey {
        ContentKey { base: self.base.clone(), scope: self.scope.clone(), digest: digest.clone() }
    }

    async fn get_manifest(&self, reference: &str) -> Result<Content, Missing> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let (headers, body) = self.get(url, What::Manifest, MAX_MANIFEST).await?;
        let digest = Sha256Digest::of(&body);
        let claimed = headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        if claimed.is_some_and(|claimed| claimed.starts_with("sha256:") && claimed != digest.as_str()) {
            let message =
                format!("{} names {} for {reference}, but sends {digest}", self.host, claimed.unwrap_or_default());
            return Err(Missing::Unknown(Unknown::new(UnknownCause::Integrity, message)));
        }
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Content { digest, media_type, body })
    }

    fn hashes_to(&self, content: Content, digest: &Sha256Digest) -> Result<Content, Missing> {
        if content.digest == *digest {
            return Ok(content);
        }
        let message = format!("{} was asked for {digest}, but sent {}", self.host, content.digest);
        Err(Missing::Unknown(Unknown::new(UnknownCause::Integrity, message)))
    }

    fn url(&self, path: &str) -> Result<Url, Missing> {
        Url::parse(&format!("{}/{path}", self.base)).map_err(|e| {
            Missing::Unknown(Unknown::new(UnknownCause::Unreachable, format!("{}: not an address: {e}", self.host)))
        })
    }

    /// A page of the referrers: its headers and its body; `None` for 404 and its like.
    pub(super) async fn page(&self, url: Url) -> Answer<(HeaderMap, Bytes)> {
        match self.get(url, What::Referrers, MAX_MANIFEST).await {
            Ok(page) => Answer::Found(page),
            Err(Missing::None) => Answer::None,
            Err(Missing::Unknown(unknown)) => Answer::Unknown(unknown),
        }
    }

    pub(super) fn first_page(&self, path: &str) -> Answer<Url> {
        match self.url(path) {
            Ok(url) => Answer::Found(url),
            Err(Missing::None) => Answer::None,
            Err(Missing::Unknown(unknown)) => Answer::Unknown(unknown),
        }
    }

    async fn get(&self, url: Url, what: What, limit: usize) -> Result<(HeaderMap, Bytes), Missing> {
        let Some(transport) = &self.registry.transport else {
            return self.ask_network(url, what, limit).await;
        };
        let question = self.question(&url, limit);
        let network = async {
            match self.ask_network(url, what, limit).await {
                Ok((headers, body)) => Answer::Found(Page { headers, body }),
                Err(Missing::None) => Answer::None,
                Err(Missing::Unknown(unknown)) => Answer::Unknown(unknown),
            }
        };
        match transport.answer(question, network.boxed()).await {
            Answer::Found(page) if page.body.len() > limit => Err(Missing::Unknown(self.too_large("an answer"))),
            Answer::Found(page) => Ok((page.headers, page.body)),
            Answer::None => Err(Missing::None),
            Answer::Unknown(unknown) => Err(Missing::Unknown(unknown)),
        }
    }

    /// What a URL asks, with the names that the reference has: a mirror's are its own.
    fn question(&self, url: &Url, limit: usize) -> Question {
        let rest = url.as_str().strip_prefix(&self.base);
        let path = rest.map_or_else(
            || url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())),
            |rest| format!("/v2/{}{rest}", self.written.repository()),
        );
        Question { registry: self.written.host().to_owned(), path, limit }
    }

    async fn ask_network(&self, url: Url, what: What, limit: usize) -> Result<(HeaderMap, Bytes), Missing> {
        if let Some(left) = self.registry.inner.pauses.left(&self.host) {
            let mut unknown = Unknown::new(UnknownCause::RateLimited, format!("{} asked to wait", self.host));
            unknown.retry_after = Some(left);
            return Err(Missing::Unknown(unknown));
        }
        match self.attempt(url.clone(), what, limit).boxed().await {
            Err(Missing::Unknown(unknown)) if unknown.cause == UnknownCause::Unreachable => {
                tracing::debug!(registry = %self.host, error = %unknown, "registry asked once more");
                tokio::time::sleep(RETRY_AFTER_FAULT).await;
                self.attempt(url, what, limit).boxed().await
            }
            other => other,
        }
    }

    async fn attempt(&self, url: Url, what: What, limit: usize) -> Result<(HeaderMap, Bytes), Missing> {
        let mut response = self.authorized(url, what).await.map_err(Missing::Unknown)?;
        let status = response.status();
        let unknown = |cause, message| Missing::Unknown(Unknown::new(cause, message));
        let answered = || format!("{} answered {status} for {}", self.host, self.name);
        match status.as_u16() {
            200 => {
                let body = bounded(&mut response, &self.host, limit).await.map_err(Missing::Unknown)?;
                Ok((response.headers().clone(), body))
            }
            404 | 405 | 410 | 501 => Err(Missing::None),
            // How registries without the referrers API say so, as those who write fallback tags read it; a redirect that
            // is still here leads to another host.
            300..=399 | 400 | 406 if what == What::Referrers => Err(Missing::None),
            401 | 403 => Err(unknown(UnknownCause::Unauthorized, answered())),
            429 => Err(Missing::Unknown(self.paused(status, response.headers()))),
            503 if response.headers().contains_key(RETRY_AFTER) => {
                Err(Missing::Unknown(self.paused(status, response.headers())))
            }
            502..=504 => Err(unknown(UnknownCause::Unreachable, answered())),
            _ => Err(unknown(UnknownCause::RegistryError, answered())),
        }
    }

    /// The answer to the first of the credentials that the repository lets in, in their order, as the kubelet tries them;
    /// those that it let in last come first.
    async fn authorized(&self, url: Url, what: What) -> Result<Response, Unknown> {
        let start = self.registry.inner.accepted.get(&self.identity()).await.unwrap_or(0);
        let mut known = self.known_authorization(start).await;
        let mut response = self.send(url.clone(), what, known.as_ref()).await?;
        let mut last = None;
        let others = (0..self.credentials_to_try()).filter(|other| *other != start);
        for credential in iter::once(start).chain(others) {
            if !matches!(response.status().as_u16(), 401 | 403) {
                if credential > 0 {
                    self.registry.inner.accepted.insert(self.identity(), credential).await;
                }
                return Ok(response);
            }
            if known.take().is_some() {
                self.forget_authorization(credential).await;
            }
            // A host that we were redirected to may not say where credentials go.
            if response.headers().get(WWW_AUTHENTICATE).is_none() || response.url().origin() != url.origin() {
                break;
            }
            match self.authorize(response.headers(), credential).await {
                Ok(authorization) => {
                    let answered = self.send(url.clone(), what, Some(&authorization)).await?;
                    if !matches!(answered.status().as_u16(), 401 | 403) {
                        self.registry.inner.accepted.insert(self.identity(), credential).await;
                        return Ok(answered);
                    }
                    self.forget_authorization(credential).await;
                    last = None;
                    // The next credentials answer this challenge, if it carries one; else the first one's.
                    if answered.headers().get(WWW_AUTHENTICATE).is_some() {
                        response = answered;
                    }
                }
                Err(unknown) => last = Some(unknown),
            }
        }
        last.map_or(Ok(response), Err)
    }

    async fn send(&self, url: Url, what: What, authorization: Option<&Authorization>) -> Result<Response, Unknown> {
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(what.accept()));
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.header.clone());
        }
        // Only the registry itself knows what refers to an image: who is sent elsewhere is to try the fallback tag.
        let sent = if what == What::Referrers {
            self.client.send_to_one(request).boxed().await
        } else {
            self.client.send(request).boxed().await
        };
        self.registry.inner.requests.count(what, &sent);
        sent.map_err(|error| unanswered(&self.host, error))
    }

    /// Remembers the pause that a 429 or 503 asks for.
    pub(super) fn paused(&self, status: StatusCode, headers: &HeaderMap) -> Unknown {
        let pause = pause::asked(headers).unwrap_or(DEFAULT_PAUSE).min(MAX_PAUSE);
        self.registry.inner.pauses.pause(&self.host, pause);
        let mut unknown = Unknown::new(UnknownCause::RateLimited, format!("{} answered {status}", self.host));
        unknown.retry_after = Some(pause);
        unknown
    }

    fn too_large(&self, what: &str) -> Unknown {
        Unknown::new(UnknownCause::TooLarge, format!("{}: {what} is too large", self.host))
    }
}

fn answer(result: Result<Content, Missing>) -> Answer<Content> {
    match result {
        Ok(content) => Answer::Found(content),
        Err(Missing::None) => Answer::None,
        Err(Missing::Unknown(unknown)) => Answer::Unknown(unknown),
    }
}

/// The body, if it is no longer than `limit`: counted while it comes, whatever the header says.
pub(crate) async fn bounded(response: &mut Response, host: &str, limit: usize) -> Result<Bytes, Unknown> {
    let too_large = || Unknown::new(UnknownCause::TooLarge, format!("{host} sends more than {limit} bytes"));
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| unreachable(host, &e))? {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    // Grown by doubling, and kept for minutes: what is kept has the size it needs.
    Ok(if body.len() < body.capacity() / 4 * 3 { Bytes::copy_from_slice(&body) } else { body.freeze() })
}

/// A request that brought no answer.
pub(crate) fn unanswered(host: &str, error: EgressError) -> Unknown {
    match error {
        EgressError::Refused(refused) => Unknown::new(UnknownCause::Guarded, format!("{host}: {refused}")),
        EgressError::Redirect { .. } => Unknown::new(UnknownCause::RegistryError, format!("{host}: {error}")),
        EgressError::Http(error) => unreachable(host, &error),
    }
}

fn unreachable(host: &str, error: &reqwest::Error) -> Unknown {
    // The innermost cause is what a person can act on; the outer ones only say "error sending request".
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let what = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
    Unknown::new(UnknownCause::Unreachable, format!("{host} can't be reached: {what}"))
}
