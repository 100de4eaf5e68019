//! What there is to ask about what runs, and what the answers mean for which workload. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use zastava_admission::policies::policy::{Labels, Occurrence, Requirements};
use zastava_core::backend::terms::Terms;
use zastava_crds::{
    digest::{DigestKind, ImageDigest},
    finding::FindingType,
    wire::{report::WorkloadRef, sync::RuleSet},
};
use zastava_verify::{
    image::{ImageReference, Platforms},
    requirement::PolicyRequirements,
};

use super::{
    answers::{Answers, Doubt, Judged, Question, Violation},
    book::Asking,
    outlook::Outlook,
    running::Running,
};
use crate::{
    finding::{FindingKey, Standing, cause::Cause},
    pods::Pod,
};

/// Questions at most; of what is beyond them nothing is said.
const MAX_QUESTIONS: usize = 50_000;
/// Bounds of the schema of findings.
const MAX_NAME: usize = 63;

/// What is looked at.
#[derive(Debug)]
pub(super) struct World {
    /// The policies that ask.
    pub(super) policies: Arc<Vec<Asking>>,
    /// All pods.
    pub(super) pods: Vec<Arc<Pod>>,
    /// With the labels of the namespaces that are not exempt.
    pub(super) rules: Arc<RuleSet>,
    /// Platforms of the nodes.
    pub(super) platforms: Platforms,
}

/// A container of a workload: what findings are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) workload: WorkloadRef,
    pub(super) container: String,
}

/// How a policy stands with a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// All images that run there satisfy it.
    Satisfied,
    /// An exception covers them.
    Excepted(String),
    /// It finds this requirement not met.
    Violated(String),
    /// It can't be said.
    Open,
}

/// What is asked for a question: at least one of proof and verdict.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// To be proven.
    pub(super) proof: Option<Arc<PolicyRequirements>>,
    /// What is made of the backend's word.
    pub(super) verdict: Option<Terms>,
    pub(super) interval: Duration,
}

/// What one look sees.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) questions: HashMap<Question, Asked>,
    /// Findings that stand.
    pub(super) wanted: BTreeMap<FindingKey, Cause>,
    /// How the policies, by name, stand with each place that they speak for.
    pub(super) states: HashMap<(Place, String), State>,
    /// Every place where something runs, whoever speaks for it.
    pub(super) places: BTreeSet<Place>,
    /// By UID of the policy.
    pub(super) outlooks: HashMap<String, Outlook>,
    /// When an exception stops counting next.
    pub(super) next: Option<Timestamp>,
}

/// An image in a pod.
struct Use {
    pod: Arc<Pod>,
    place: Place,
    image: Arc<Image>,
}

/// An image as a pod names and a node runs it.
struct Image {
    written: String,
    /// `None`: it can't be read, so it can't be said which policies select it, and each of them does.
    named: Option<ImageReference>,
    running: Running,
}

/// How a policy stands with one image; the worst of its uses counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worst {
    Satisfied,
    Excepted,
    Pending,
    Unknown,
    Violated,
}

/// Looks at everything.
pub(super) fn survey(world: &World, answers: &Answers, now: Timestamp) -> Survey {
    let mut survey = Survey::default();
    let uses = if world.policies.is_empty() { Vec::new() } else { uses(&world.pods) };
    survey.places = uses.iter().map(|one| one.place.clone()).collect();
    for asking in world.policies.iter() {
        survey.policy(asking, world, &uses, answers, now);
        let expiries = asking.expiries.iter().filter(|at| **at > now).copied();
        survey.next = survey.next.into_iter().chain(expiries).min();
    }
    survey
}

impl Survey {
    fn policy(&mut self, asking: &Asking, world: &World, uses: &[Use], answers: &Answers, now: Timestamp) {
        let policy = &asking.policy;
        let selects_namespace = |labels: &Labels| policy.scope.namespaces.as_ref().is_none_or(|s| matches(s, labels));
        let selected: BTreeSet<&str> = world
            .rules
            .namespaces
            .iter()
            .filter_map(|(name, labels)| selects_namespace(labels).then_some(name.as_str()))
            .collect();
        // Uses of one image lie together, so that its question is put and answered once.
        let mut images: HashMap<&Running, Vec<&Use>> = HashMap::new();
        for one in uses {
            if selected.contains(one.pod.namespace.as_str())
                && policy.scope.has_pod(&one.pod.labels)
                && one.image.named.as_ref().is_none_or(|named| policy.scope.has_image(named))
            {
                images.entry(&one.image.running).or_default().push(one);
            }
        }
        let mut outlook = Outlook { generation: asking.generation, images: images.len(), ..Outlook::default() };
        let mut doubts = BTreeSet::new();
        for (running, uses) in images {
            let unknown;
            let judged = match (&policy.requirements, running) {
                (Requirements::Unreadable { field, why }, _) => {
                    unknown = doubt(&format!("{field}: {why}"), "mend the policy, or give Zastava what it names");
                    Judged::Unknown(&unknown)
                }
                (_, Running::Unknown(why)) => {
                    unknown = doubt(why, "name the image by its digest");
                    Judged::Unknown(&unknown)
                }
                (Requirements::DigestOnly, _) if policy.verdict.is_none() => Judged::Satisfied,
                (Requirements::Proof(_) | Requirements::DigestOnly, running) => {
                    let proof = match &policy.requirements {
                        Requirements::Proof(requirements) => Some(requirements.clone()),
                        Requirements::DigestOnly | Requirements::Unreadable { .. } => None,
                    };
                    let question = Question {
                        uid: policy.reference.uid.clone(),
                        generation: asking.generation,
                        proof: proof.as_ref().map(|requirements| requirements.policy().clone()),
                        running: running.clone(),
                        platforms: world.platforms.clone(),
                    };
                    if self.questions.len() >= MAX_QUESTIONS {
                        unknown = doubt("more images run than are looked at", "ask less of fewer pods");
                        Judged::Unknown(&unknown)
                    } else {
                        let judged = answers.judge(&question, now);
                        let (verdict, interval) = (policy.verdict, asking.interval);
                        self.questions.insert(question, Asked { proof, verdict, interval });
                        judged
                    }
                }
            };
            let worst = uses.iter().map(|one| self.one(asking, one, judged, now)).max().unwrap_or(Worst::Satisfied);
            match worst {
                Worst::Satisfied => outlook.satisfied += 1,
                Worst::Excepted => outlook.excepted += 1,
                Worst::Pending => outlook.pending += 1,
                Worst::Violated => outlook.violated += 1,
                Worst::Unknown => {
                    outlook.unknown += 1;
                    if let (Judged::Unknown(doubt), Some(one)) = (judged, uses.iter().min_by_key(|one| &one.place)) {
                        let Place { namespace, workload, .. } = &one.place;
                        let at = format!("{} of {namespace}/{}", one.image.written, workload.name);
                        doubts.insert(format!("{at}: {}; next: {}", doubt.message, doubt.next_step));
                    }
                }
            }
        }
        outlook.doubt = doubts.pop_first();
        self.outlooks.insert(policy.reference.uid.clone(), outlook);
    }

    /// What a policy's answer about an image means for one of the pods that run it.
    fn one(&mut self, asking: &Asking, one: &Use, judged: Judged<'_>, now: Timestamp) -> Worst {
        let policy = &asking.policy;
        let excepted = |digest| {
            let image = one.image.named.as_ref()?;
            let occurrence = Occurrence { namespace: &one.pod.namespace, labels: &one.pod.labels, image, digest };
            policy.exception(occurrence, now).map(|exception| exception.name.clone())
        };
        let told = match judged {
            Judged::Violated(violation) => violation.digest.as_ref().map(|digest| &digest.digest),
            _ => None,
        };
        let exception = excepted(one.image.running.digest()).or_else(|| excepted(told));
        let (state, worst) = match (exception, judged) {
            (Some(name), _) => (State::Excepted(name), Worst::Excepted),
            (None, Judged::Satisfied) => (State::Satisfied, Worst::Satisfied),
            (None, Judged::Pending) => (State::Open, Worst::Pending),
            (None, Judged::Unknown(_)) => (State::Open, Worst::Unknown),
            (None, Judged::Violated(violation)) => {
                self.want(asking, one, violation);
                (State::Violated(violation.requirement.clone()), Worst::Violated)
            }
        };
        let key = (one.place.clone(), policy.reference.name.clone());
        let old = self.states.entry(key).or_insert_with(|| state.clone());
        if state.weight() > old.weight() {
            *old = state;
        }
        worst
    }

    fn want(&mut self, asking: &Asking, one: &Use, violation: &Violation) {
        let reference = &asking.policy.reference;
        let key = FindingKey {
            namespace: one.place.namespace.clone(),
            workload: one.place.workload.clone(),
            container: one.place.container.clone(),
            type_: FindingType::Posture,
            subject: violation.requirement.clone(),
            standing: Standing::Attributed,
        };
        let digest = violation.digest.clone().or_else(|| {
            let digest = one.image.running.digest()?.clone();
            Some(ImageDigest { kind: DigestKind::Unresolved, digest })
        });
        let image = &one.image.written;
        let name = &reference.name;
        let cause = Cause {
            severity: violation.severity,
            policies: vec![name.clone()],
            image: image.clone(),
            digests: digest.iter().cloned().collect(),
            pods: vec![one.pod.name.clone()],
            nodes: one.pod.node.iter().cloned().collect(),
            message: format!("policy {name}: {}; next: {}", violation.found, violation.next_step),
            event_id: format!("posture/{}/{}", reference.uid, digest.map(|d| d.digest.to_string()).unwrap_or_default()),
        };
        match self.wanted.get_mut(&key) {
            Some(known) => known.join(cause),
            None => {
                self.wanted.insert(key, cause);
            }
        }
    }
}

impl State {
    /// What is not known comes before all else: nothing is resolved on half a word.
    fn weight(&self) -> u8 {
        match self {
            Self::Excepted(_) => 0,
            Self::Satisfied => 1,
            Self::Violated(_) => 2,
            Self::Open => 3,
        }
    }
}

/// Every image that runs: of all containers that have started, and of the volumes of their pods.
fn uses(pods: &[Arc<Pod>]) -> Vec<Use> {
    let mut known: HashMap<(&str, Option<&str>), Arc<Image>> = HashMap::new();
    let mut uses = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.finished && pod.node.is_some()) {
        let containers = pod
            .containers
            .iter()
            .filter_map(|one| Some((one.name.clone(), one.image.as_str(), Some(one.image_id.as_deref()?))));
        let started = pod.containers.iter().any(|one| one.image_id.is_some());
        let volumes = pod
            .image_volumes
            .iter()
            .filter(|_| started)
            .map(|(name, image)| (format!("volume/{name}"), image.as_str(), None));
        for (container, image, id) in containers.chain(volumes) {
            let image = known.entry((image, id)).or_insert_with(|| Arc::new(Image::of(image, id))).clone();
            let place = Place {
                namespace: pod.namespace.clone(),
                workload: pod.workload.clone(),
                container: container.chars().take(MAX_NAME).collect(),
            };
            uses.push(Use { pod: pod.clone(), place, image });
        }
    }
    // Whatever the order of an index is: what is told of a place is the same at each look.
    uses.sort_by(|a, b| (&a.place, &a.pod.name).cmp(&(&b.place, &b.pod.name)));
    uses
}

impl Image {
    fn of(written: &str, id: Option<&str>) -> Self {
        let named: Option<ImageReference> = written.parse().ok();
        let running = match (&named, id) {
            (None, _) => Running::Unknown("its reference can't be read"),
            (Some(named), Some(id)) => Running::of(named, id),
            (Some(named), None) => Running::of_volume(named),
        };
        Self { written: written.to_owned(), named, running }
    }
}

fn doubt(message: &str, next_step: &str) -> Doubt {
    Doubt { message: message.to_owned(), next_step: next_step.to_owned(), retry_after: None }
}

fn matches(selector: &kube::core::Selector, labels: &Labels) -> bool {
    use kube::core::SelectorExt as _;
    selector.matches(labels)
}
