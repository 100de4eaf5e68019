//! What one policy says about each image of a request.

use futures::future::join_all;
use jiff::Timestamp;
use tokio::{sync::OnceCell, time::Instant};
use zastava_core::backend::{terms::Weighed, verdicts::Verdicts};
use zastava_crds::{digest::ImageDigest, policy::Mode};
use zastava_verify::{
    image::{ImageReference, Platforms},
    verdict::UnknownVerdict,
};

use super::{
    live::{self, Live},
    scope::{self, Scoped},
    unmatched::{Others, Selected},
};
use crate::{
    cluster::Cluster,
    credentials::pull::{Access, Credentials},
    decision::judgement::{Judged, Judgement, Problem, Used},
    engine::{Engine, Examined},
    policies::{
        policy::{Occurrence, Policy, Requirements},
        snapshot::World,
    },
    review::{
        images::ImageUse,
        request::{MAX_IMAGES, Workload},
    },
};

/// Images of one request that are examined at once; equal ones share one conversation with their registry.
const AT_ONCE: usize = 64;

/// All that a judgement rests on beside policy and workload.
#[derive(Debug)]
pub struct Court<'a, E, C> {
    /// The verification engine.
    pub engine: &'a E,
    /// The API server.
    pub cluster: &'a C,
    /// The backend's words.
    pub verdicts: &'a Verdicts,
    /// Policies' surroundings.
    pub world: &'a World,
    /// Credentials.
    pub credentials: &'a Credentials,
    /// When the answer must be given.
    pub deadline: Instant,
    /// The moment that exceptions are held against.
    pub now: Timestamp,
}

/// What all images of one request share.
struct Around<'a, C> {
    /// Read when the first image needs them.
    access: OnceCell<Access>,
    platforms: &'a Platforms,
    others: Others<'a, C>,
}

impl<E: Engine, C: Cluster> Court<'_, E, C> {
    /// What a policy says about every new image of a workload.
    pub async fn judge(&self, policy: &Policy, workload: &Workload) -> Vec<Judgement> {
        if !policy.scope.has_pod(&workload.labels) {
            return all(workload, |_| Judged::NotSelected);
        }
        let selector = policy.scope.namespaces.as_ref();
        match scope::of_namespace(selector, &workload.namespace, self.world, self.cluster, self.deadline).await {
            Scoped::In => {}
            Scoped::Out => return all(workload, |_| Judged::NotSelected),
            Scoped::Unknown(why) => {
                return all(workload, |_| Judged::Unknown(unknown("spec.match.namespaceSelector", &why)));
            }
        }
        if workload.images.len() > MAX_IMAGES {
            let found = format!("{} images, at most {MAX_IMAGES} can be verified", workload.images.len());
            return all(workload, |_| Judged::Failed(failed("number of images", &found, "use fewer containers")));
        }
        let snapshot = self.world.snapshot();
        let around = Around {
            access: OnceCell::new(),
            platforms: &snapshot.platforms,
            others: Others::new(workload, &snapshot, self.cluster, self.deadline),
        };
        let mut judgements = Vec::with_capacity(workload.images.len());
        for some in workload.images.chunks(AT_ONCE) {
            let judged = some.iter().map(|image| self.one(policy, workload, image, &around));
            let judged = join_all(judged).await;
            judgements.extend(some.iter().cloned().zip(judged).map(|(image, judged)| Judgement { image, judged }));
        }
        judgements
    }

    async fn one(&self, policy: &Policy, workload: &Workload, named: &ImageUse, around: &Around<'_, C>) -> Judged {
        let template = workload.kind.is_template();
        let image: ImageReference = match named.reference.parse() {
            Ok(image) => image,
            Err(error) => {
                // It can't be said which policies select it, so each of them does. A template's may be filled in later.
                let problem =
                    failed("image reference", &error.to_string(), "write a reference such as registry.example/app:1");
                return if template { Judged::Unknown(problem) } else { Judged::Failed(problem) };
            }
        };
        let selects = policy.scope.has_image(&image);
        if !selects && !policy.refuses_unmatched() {
            return Judged::NotSelected;
        }
        let excepted = |digest| {
            let occurrence =
                Occurrence { namespace: &workload.namespace, labels: &workload.labels, image: &image, digest };
            policy.exception(occurrence, self.now).map(|exception| Used {
                name: exception.name.clone(),
                reason: exception.reason.clone(),
                expires: exception.expires,
            })
        };
        if !selects {
            return match around.others.select(&image).await {
                Selected::BySomebody => Judged::NotSelected,
                Selected::ByNobody => {
                    excepted(None).map_or_else(|| Judged::Failed(unmatched(&image)), Judged::Excepted)
                }
                Selected::Unknown(why) => {
                    excepted(None).map_or_else(|| Judged::Unknown(unknown("unmatched: Deny", &why)), Judged::Excepted)
                }
            };
        }
        if let Some(used) = excepted(None) {
            return Judged::Excepted(used);
        }
        let unpinned = !template && image.digest().is_none();
        if unpinned && policy.requires_written_digests() {
            return Judged::Failed(failed(
                "digests: Require",
                "the reference has no digest",
                "write the reference as name@sha256:…",
            ));
        }
        let requirements = match &policy.requirements {
            Requirements::Proof(requirements) => Some(requirements),
            Requirements::DigestOnly => None,
            Requirements::Unreadable { field, why } => return Judged::Unknown(unknown(field, why)),
        };
        let live =
            Live { verdicts: self.verdicts, terms: policy.verdict.as_ref(), deadline: self.deadline, now: self.now };
        let read = || self.credentials.of(self.cluster, workload, self.deadline);
        let access = around.access.get_or_init(read).await;
        let examination = self.engine.examine(&image, requirements, around.platforms, &access.keychain, self.deadline);
        let (examined, early) = live.beside(image.digest(), examination).await;
        // The kubelet resolves a tag again: what is shown of a digest says nothing of a pod that does not name it.
        let must_pin = unpinned && policy.mode == Mode::Enforce;
        match examined {
            Examined::Satisfied(satisfied) if must_pin => Judged::Failed(not_pinned(satisfied.digest())),
            Examined::Satisfied(satisfied) => {
                let digest = satisfied.digest().clone();
                let (definite, lack) = match live.word(&digest, early).await {
                    None => return Judged::Satisfied { digest, note: None },
                    Some(Weighed::Accepted(note)) => return Judged::Satisfied { digest, note },
                    Some(Weighed::Refused(lack)) => (true, lack),
                    Some(Weighed::Open(lack)) => (false, lack),
                };
                if let Some(used) = excepted(Some(&digest.digest)) {
                    return Judged::Excepted(used);
                }
                let problem = live::problem(&digest, lack);
                // The backend may know the image by the time that a template makes its pods.
                if definite || !template { Judged::Failed(problem) } else { Judged::Unknown(problem) }
            }
            Examined::Refused(refusal) => match excepted(refusal.digest.as_ref().map(|d| &d.digest)) {
                Some(used) if must_pin => Judged::Failed(excepted_unpinned(refusal.digest, &used)),
                Some(used) => Judged::Excepted(used),
                None => Judged::Failed(Problem::from(refusal)),
            },
            Examined::Unknown(verdict) => match excepted(verdict.digest.as_ref().map(|d| &d.digest)) {
                Some(used) if must_pin => Judged::Unknown(excepted_unpinned(verdict.digest, &used)),
                Some(used) => Judged::Excepted(used),
                None => {
                    let next_step = access.next_step(verdict.cause, verdict.next_step);
                    Judged::Unknown(Problem::from(UnknownVerdict { next_step, ..verdict }))
                }
            },
        }
    }
}

/// The same about every image of a workload.
pub fn all(workload: &Workload, judged: impl Fn(&ImageUse) -> Judged) -> Vec<Judgement> {
    workload.images.iter().map(|image| Judgement { image: image.clone(), judged: judged(image) }).collect()
}

/// That nothing can be said, for a reason that is not the registry's.
pub fn unknown(requirement: &str, why: &str) -> Problem {
    failed(requirement, why, "try again; if it stays so, look at the policy's conditions")
}

fn not_pinned(digest: &ImageDigest) -> Problem {
    Problem {
        digest: Some(digest.clone()),
        requirement: "digests".to_owned(),
        found: "the reference is not pinned: pinning did not answer in time, or the image was changed after it"
            .to_owned(),
        next_step: "apply it again, or write the reference with its digest".to_owned(),
    }
}

/// An exception that names what a tag was resolved to, and nothing by which the pod itself could be known.
fn excepted_unpinned(digest: Option<ImageDigest>, used: &Used) -> Problem {
    Problem {
        digest,
        requirement: "digests".to_owned(),
        found: format!("the reference is not pinned, and exception {} covers the digest alone", used.name),
        next_step: "write the reference as name@sha256:…, or apply it again to have it pinned".to_owned(),
    }
}

fn unmatched(image: &ImageReference) -> Problem {
    let name = image.canonical();
    failed(
        "unmatched: Deny",
        &format!("no policy in force selects {name}"),
        &format!(
            "use an image that a policy selects, or add {name} to spec.match.images of the policy that verifies it"
        ),
    )
}

fn failed(requirement: &str, found: &str, next_step: &str) -> Problem {
    Problem {
        digest: None,
        requirement: requirement.to_owned(),
        found: found.to_owned(),
        next_step: next_step.to_owned(),
    }
}
