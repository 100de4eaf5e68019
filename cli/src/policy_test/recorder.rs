//! Sees what registries answer, and keeps it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderName, LINK},
};
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    answer::{Answer, UnknownCause},
    registry::transport::{Page, Question, Transport},
};

use super::recorded::{Answers, Found, Recorded, Written};

/// What a registry says a manifest's digest is.
pub const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A transport that listens.
#[derive(Debug, Default)]
pub struct Recorder {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    recorded: Recorded,
    /// What happened instead of an answer, by registry and path.
    troubles: BTreeMap<(String, String), String>,
}

impl Recorder {
    /// What was recorded, and what could not be. Where no answer came, one that was written by hand before stays: it says
    /// what is to be tested there.
    pub fn taken(&self, before: &Answers) -> (Recorded, Vec<String>) {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        let Heard { mut recorded, mut troubles } = heard;
        troubles.retain(|(registry, path), _| {
            let written = before.get(registry).and_then(|paths| paths.get(path));
            let Some(unknown @ Written::Unknown(_)) = written else { return true };
            let known = recorded.answers.entry(registry.clone()).or_default();
            known.insert(path.clone(), unknown.clone());
            false
        });
        let told = troubles.into_iter().map(|((registry, path), why)| format!("{registry}{path}: {why}"));
        (recorded, told.collect())
    }

    fn hear(&self, question: &Question, answer: &Answer<Page>) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let Heard { recorded, troubles } = &mut *heard;
        let Question { registry, path, .. } = question;
        let written = match answer {
            Answer::Found(page) => {
                let body = Sha256Digest::of(&page.body);
                Written::Found(Found {
                    body,
                    content_type: text(&page.headers, &CONTENT_TYPE).next(),
                    digest: text(&page.headers, &DIGEST).next(),
                    link: text(&page.headers, &LINK).collect(),
                })
            }
            Answer::None => Written::None {},
            // Who may not read is told so again and again; all else passes, and would make a test that fails by chance.
            Answer::Unknown(unknown) if unknown.cause == UnknownCause::Unauthorized => {
                Written::Unknown(unknown.cause.category().to_owned())
            }
            Answer::Unknown(unknown) => {
                troubles.insert((registry.clone(), path.clone()), unknown.message.clone());
                return;
            }
        };
        let known = recorded.answers.entry(registry.clone()).or_default();
        match known.get(path) {
            None => {
                if let (Written::Found(found), Answer::Found(page)) = (&written, answer) {
                    recorded.bodies.insert(found.body.clone(), page.body.to_vec());
                }
                known.insert(path.clone(), written);
            }
            Some(before) if *before == written => {}
            Some(_) => {
                let why = "two cases got different answers, the first one is kept".to_owned();
                troubles.insert((registry.clone(), path.clone()), why);
            }
        }
    }
}

/// Values of one header; of the others nothing is kept.
fn text(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned)
}

impl Transport for Recorder {
    fn answer<'a>(&'a self, question: Question, network: BoxFuture<'a, Answer<Page>>) -> BoxFuture<'a, Answer<Page>> {
        async move {
            let answer = network.await;
            self.hear(&question, &answer);
            answer
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_answers_the_first_is_kept_and_nothing_of_the_other() {
        let recorder = Recorder::default();
        let question = Question { registry: "r.example".to_owned(), path: "/v2/a/manifests/1".to_owned(), limit: 10 };
        for body in ["first", "second"] {
            recorder.hear(&question, &Answer::Found(Page { headers: HeaderMap::new(), body: body.into() }));
        }
        let (kept, troubles) = recorder.taken(&Answers::default());
        assert_eq!(kept.bodies.into_values().collect::<Vec<_>>(), [b"first"]);
        assert_eq!(troubles.len(), 1, "{troubles:?}");
    }
}
