//! What stands between the engine and the network: an image layout on disk, a recording, or one who records.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::HeaderMap;

use crate::answer::Answer;

/// What a registry is asked. Who asks is no part of it: credentials stay with the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The registry as references name it, whichever mirror is asked in its place.
    pub registry: String,
    /// Path and query, such as `/v2/team/app/manifests/1.0`.
    pub path: String,
    /// Bytes of an answer at most; a longer one is refused whoever gives it.
    pub limit: usize,
}

/// One answer of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Of these, `content-type`, `docker-content-digest` and `link` are read.
    pub headers: HeaderMap,
    /// What hashes to the digest that was asked for; the engine checks it, whoever answered.
    pub body: Bytes,
}

/// Gives answers in place of the network, or sees those that it gives.
pub trait Transport: Send + Sync {
    /// The answer to a question. `network` asks the registry when it is awaited; dropped, no connection is made.
    fn answer<'a>(&'a self, question: Question, network: BoxFuture<'a, Answer<Page>>) -> BoxFuture<'a, Answer<Page>>;
}
