//! Gives what was recorded, and nothing else: no connection is made.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_TYPE, LINK},
};
use zastava_verify::{
    answer::{Answer, Unknown, UnknownCause},
    registry::transport::{Page, Question, Transport},
};

use super::{
    recorded::{Recorded, Written},
    recorder::DIGEST,
};

/// A transport over what was recorded.
#[derive(Debug)]
pub struct Replay {
    recorded: Recorded,
    missing: Mutex<BTreeSet<String>>,
}

impl Replay {
    /// Of these answers.
    pub fn of(recorded: Recorded) -> Self {
        Self { recorded, missing: Mutex::default() }
    }

    /// What was asked since the last time and is not recorded, sorted.
    pub fn take_missing(&self) -> Vec<String> {
        let missing = std::mem::take(&mut *self.missing.lock().unwrap_or_else(PoisonError::into_inner));
        missing.into_iter().collect()
    }

    fn recorded(&self, Question { registry, path, .. }: &Question) -> Answer<Page> {
        let written = self.recorded.answers.get(registry).and_then(|paths| paths.get(path));
        match written {
            Some(Written::None {}) => Answer::None,
            Some(Written::Found(found)) => {
                let mut headers = HeaderMap::new();
                let named = [(CONTENT_TYPE, &found.content_type), (DIGEST, &found.digest)];
                let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
                for (name, value) in named.chain(found.link.iter().map(|link| (LINK, link))) {
                    if let Ok(value) = HeaderValue::from_str(value) {
                        headers.append(name, value);
                    }
                }
                let body = self.recorded.bodies.get(&found.body).cloned().unwrap_or_default();
                Answer::Found(Page { headers, body: body.into() })
            }
            Some(Written::Unknown(class)) => {
                // Of one that was loaded the class is known.
                let cause = class.parse().unwrap_or(UnknownCause::RegistryError);
                Answer::Unknown(Unknown::new(cause, format!("{registry}: {class}, as recorded")))
            }
            None => {
                self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{registry}{path}"));
                let message = format!("{registry}{path} is not recorded: record it with kubectl zastava policy record");
                Answer::Unknown(Unknown::new(UnknownCause::RegistryError, message))
            }
        }
    }
}

impl Transport for Replay {
    fn answer<'a>(&'a self, question: Question, _: BoxFuture<'a, Answer<Page>>) -> BoxFuture<'a, Answer<Page>> {
        async move { self.recorded(&question) }.boxed()
    }
}
