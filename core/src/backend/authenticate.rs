//! What proves to the backend who asks, beside the connection's own certificate.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use reqwest::Request;

use super::{Cause, Unavailable};

/// Bytes of a token, of a chain, and of a key at most.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Puts a proof into each request.
pub trait Authenticate: Debug + Send + Sync {
    /// Proves who asks, in `request`, which is otherwise complete.
    fn authorize<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Unavailable>>;

    /// The backend answered 401 to a request with the headers `sent`: whether another proof than that can be given
    /// now, perhaps by what `answered` tells.
    fn renewed<'a>(&'a self, sent: &'a HeaderMap, answered: &'a HeaderMap) -> BoxFuture<'a, bool>;
}

/// Nothing: the connection's certificate says it all.
#[derive(Clone, Copy, Debug)]
pub struct ByConnection;

impl Authenticate for ByConnection {
    fn authorize<'a>(&'a self, _: &'a mut Request) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(async { Ok(()) })
    }

    fn renewed<'a>(&'a self, _: &'a HeaderMap, _: &'a HeaderMap) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }
}

/// A token in a file. It is read for each request: it is small, lies in memory, and changes when it likes.
#[derive(Clone, Debug)]
pub struct BearerFile(pub PathBuf);

impl BearerFile {
    async fn token(&self) -> Result<HeaderValue, Unavailable> {
        let wrong = || Unavailable::new(Cause::Credential, format!("{} holds no token", self.0.display()));
        let bytes = read(&self.0).await?;
        let token = std::str::from_utf8(&bytes).map_err(|_| wrong())?.trim();
        if token.is_empty() {
            return Err(wrong());
        }
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| wrong())?;
        // Never printed, nor kept by header compression.
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Authenticate for BearerFile {
    fn authorize<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(async move {
            let token = self.token().await?;
            request.headers_mut().insert(AUTHORIZATION, token);
            Ok(())
        })
    }

    fn renewed<'a>(&'a self, sent: &'a HeaderMap, _: &'a HeaderMap) -> BoxFuture<'a, bool> {
        Box::pin(async move { self.token().await.is_ok_and(|now| sent.get(AUTHORIZATION) != Some(&now)) })
    }
}

/// A small file, whole.
pub(super) async fn read(path: &Path) -> Result<Vec<u8>, Unavailable> {
    let wrong = |why: String| Unavailable::new(Cause::Credential, format!("{}: {why}", path.display()));
    let bytes = tokio::fs::read(path).await.map_err(|error| wrong(error.to_string()))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(wrong(format!("{} bytes: at most {MAX_FILE_BYTES}", bytes.len())));
    }
    Ok(bytes)
}
