//! The backend's word as a live condition: asked for on every request, beside the proof, and weighed after it.

use std::{future::Future, pin::pin};

use futures::future::{Either, select};
use jiff::Timestamp;
use tokio::time::Instant;
use zastava_core::backend::{
    terms::{Lack, REQUIREMENT, Terms, Weighed},
    verdicts::{Told, Verdicts},
};
use zastava_crds::digest::{DigestKind, ImageDigest, Sha256Digest};

use crate::{decision::judgement::Problem, engine::Examined};

/// The backend, asked for one image.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// The backend's words.
    pub verdicts: &'a Verdicts,
    /// What the policy makes of them; absent: it asks for none.
    pub terms: Option<&'a Terms>,
    /// When the answer must be given.
    pub deadline: Instant,
    /// The moment that a word's age is held against.
    pub now: Timestamp,
}

/// What was told of a digest before it was proven.
#[derive(Debug)]
pub struct Early {
    digest: Sha256Digest,
    told: Told,
}

impl Live<'_> {
    /// Examines an image; where its digest is written, the backend is asked at the same time, which saves a round trip.
    /// What does not satisfy is not held up by the backend.
    pub async fn beside(
        self,
        written: Option<&Sha256Digest>,
        examination: impl Future<Output = Examined>,
    ) -> (Examined, Option<Early>) {
        let (Some(digest), Some(_)) = (written, self.terms) else { return (examination.await, None) };
        let early = async {
            // What the digest names is not known before the image is read.
            let image = ImageDigest { kind: DigestKind::Unresolved, digest: digest.clone() };
            Early { digest: digest.clone(), told: self.verdicts.ask(&image, self.deadline).await }
        };
        match select(pin!(examination), pin!(early)).await {
            Either::Right((early, examination)) => (examination.await, Some(early)),
            Either::Left((examined @ Examined::Satisfied(_), early)) => (examined, Some(early.await)),
            Either::Left((examined, _)) => (examined, None),
        }
    }

    /// What the policy makes of the backend's word on a digest that was proven. Absent: it asks for none.
    pub async fn word(self, proven: &ImageDigest, early: Option<Early>) -> Option<Weighed> {
        let terms = self.terms?;
        let told = match early {
            // A word on another digest than the proven one says nothing here.
            Some(early) if early.digest == proven.digest => early.told,
            _ => self.verdicts.ask(proven, self.deadline).await,
        };
        Some(terms.weigh(&told, self.now))
    }
}

/// What a denial says.
pub fn problem(digest: &ImageDigest, lack: Lack) -> Problem {
    Problem {
        digest: Some(digest.clone()),
        requirement: REQUIREMENT.to_owned(),
        found: lack.found,
        next_step: lack.next_step,
    }
}
