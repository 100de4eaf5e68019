//! One request from review to answer.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview},
};
use tokio::{sync::Semaphore, time::Instant};
use zastava_core::backend::verdicts::Verdicts;
use zastava_crds::wire::report::AdmissionOutcome;

use crate::{
    cluster::Cluster,
    credentials::pull::Credentials,
    decision::decide::{Decision, Outcome, decide},
    decision::judgement::Judged,
    engine::Engine,
    metrics::{Metrics, Webhook},
    mutate::pin::Pinning,
    policies::{
        policy::{Policy, Standing},
        snapshot::{Known, World},
    },
    report::queue::Reporter,
    review::request::{Asked, Workload, read},
    validate::judge::{Court, all, unknown},
    warm::Recent,
};

/// Everything an answer rests on.
#[derive(Debug)]
pub struct App<E, C> {
    /// The verification engine.
    pub engine: E,
    /// The API server.
    pub cluster: C,
    /// The backend's words about images.
    pub verdicts: Verdicts,
    /// Policies and their surroundings.
    pub world: Arc<World>,
    /// Credentials for registries.
    pub credentials: Arc<Credentials>,
    /// Namespaces that are left alone.
    pub exempt: BTreeSet<String>,
    /// Images that were asked for lately.
    pub recent: Recent,
    /// Where denials are told.
    pub reporter: Reporter,
    /// What is counted.
    pub metrics: Metrics,
    /// Requests that are worked on at once; one more is answered as unknown.
    pub work: Semaphore,
}

/// Why no answer can be given: the API server then acts by the failurePolicy of the entry it called.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The policy was never seen by this replica.
    #[error("policy {uid} is not known to this replica yet")]
    UnknownPolicy {
        /// Its UID.
        uid: String,
    },
    /// An answer that JSON can't carry.
    #[error("the patch could not be written: {0}")]
    Patch(String),
}

impl AppError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::UnknownPolicy { .. } => "unknown_policy",
            Self::Patch(_) => "patch",
        }
    }
}

const BUSY: &str = "this replica of the webhook has as much to do as it can";

impl<E: Engine, C: Cluster> App<E, C> {
    /// Answers under one policy.
    pub async fn validate(
        &self,
        uid: &str,
        request: AdmissionRequest<DynamicObject>,
        deadline: Instant,
    ) -> Result<AdmissionReview<DynamicObject>, AppError> {
        let response = AdmissionResponse::from(&request);
        let count = Count { metrics: &self.metrics, webhook: Webhook::Validate, dry_run: request.dry_run };
        let workload = match self.asked(request) {
            Ok(workload) => workload,
            Err(reason) => return Ok(count.nothing(response, &reason)),
        };
        let standing = match self.world.policy(uid, deadline).await {
            Known::Policy(standing) => standing,
            Known::Deleted => return Ok(count.nothing(response, "the policy was deleted")),
            Known::Never => return Err(AppError::UnknownPolicy { uid: uid.to_owned() }),
        };
        let policy = match standing {
            Standing::InForce(policy) => policy,
            Standing::Skipped { name, reason } => {
                return Ok(count.nothing(response, &format!("policy {name} is not in force: {reason}")));
            }
        };
        let decision = self.decide(&policy, &workload, deadline).await;
        count.decided(decision.outcome);
        let excepted = decision.records.iter().filter(|record| record.outcome == AdmissionOutcome::Excepted).count();
        if excepted > 0 {
            self.metrics.excepted(&policy.reference.name, u64::try_from(excepted).unwrap_or(u64::MAX));
        }
        if !workload.dry_run {
            self.metrics.noted(&decision.notes);
        }
        tell(&policy, &workload, &decision);
        self.reporter.send(decision.records.clone());
        Ok(answer(response, decision).into_review())
    }

    async fn decide(&self, policy: &Policy, workload: &Workload, deadline: Instant) -> Decision {
        let now = Timestamp::now();
        let Ok(_permit) = self.work.try_acquire() else {
            let judgements = all(workload, |_| Judged::Unknown(unknown("verification", BUSY)));
            return decide(policy, workload, &judgements, now);
        };
        let court = Court {
            engine: &self.engine,
            cluster: &self.cluster,
            verdicts: &self.verdicts,
            world: &self.world,
            credentials: &self.credentials,
            deadline,
            now,
        };
        let judgements = court.judge(policy, workload).await;
        self.recent.satisfied(&judgements);
        decide(policy, workload, &judgements, now)
    }

    /// Pins what is to be pinned, for all policies at once.
    pub async fn mutate(
        &self,
        request: AdmissionRequest<DynamicObject>,
        deadline: Instant,
    ) -> Result<AdmissionReview<DynamicObject>, AppError> {
        let mut response = AdmissionResponse::from(&request);
        let count = Count { metrics: &self.metrics, webhook: Webhook::Mutate, dry_run: request.dry_run };
        let workload = match self.asked(request) {
            Ok(workload) => workload,
            Err(reason) => return Ok(count.nothing(response, &reason)),
        };
        let Ok(_permit) = self.work.try_acquire() else {
            return Ok(count.nothing(response, BUSY));
        };
        let pinning = Pinning {
            engine: &self.engine,
            cluster: &self.cluster,
            world: &self.world,
            credentials: &self.credentials,
            deadline,
            now: Timestamp::now(),
        };
        let pinned = pinning.pin(&workload).await;
        for (i, left) in pinned.left.iter().take(8).enumerate() {
            tracing::info!(correlationId = workload.request_uid, namespace = workload.namespace, %left, "not pinned");
            response.audit_annotations.insert(format!("not-pinned-{i}"), left.chars().take(400).collect());
        }
        if pinned.patch.is_empty() {
            return Ok(response.into_review());
        }
        let patch = serde_json::from_value(pinned.patch.into()).map_err(|error| AppError::Patch(error.to_string()))?;
        let response = response.with_patch(patch).map_err(|error| AppError::Patch(error.to_string()))?;
        Ok(response.into_review())
    }

    /// What a request asks, or why it asks nothing.
    fn asked(&self, request: AdmissionRequest<DynamicObject>) -> Result<Box<Workload>, String> {
        match read(request) {
            Asked::Nothing(reason) => Err(reason),
            Asked::Images(workload) if self.exempt.contains(&workload.namespace) => {
                Err(format!("namespace {} is exempt", workload.namespace))
            }
            Asked::Images(workload) => Ok(workload),
        }
    }
}

fn answer(mut response: AdmissionResponse, decision: Decision) -> AdmissionResponse {
    response.audit_annotations.extend(decision.annotations);
    if !decision.warnings.is_empty() {
        response.warnings = Some(decision.warnings);
    }
    match decision.message {
        Some(message) => {
            let mut response = response.deny(message);
            response.result.code = 403;
            "Forbidden".clone_into(&mut response.result.reason);
            response
        }
        None => response,
    }
}

fn tell(policy: &Policy, workload: &Workload, decision: &Decision) {
    if decision.outcome <= Outcome::Allowed {
        return;
    }
    let outcome: &'static str = decision.outcome.into();
    tracing::info!(
        correlationId = workload.request_uid,
        namespace = workload.namespace,
        workload = %format_args!("{}/{}", workload.owner.kind, workload.owner.name),
        policy = policy.reference.name,
        dryRun = workload.dry_run,
        outcome,
        message = decision.message.as_deref().unwrap_or_default(),
        "decided"
    );
}

/// Counts an answer once, and a dry run never.
struct Count<'a> {
    metrics: &'a Metrics,
    webhook: Webhook,
    dry_run: bool,
}

impl Count<'_> {
    fn decided(&self, outcome: Outcome) {
        if !self.dry_run && self.webhook == Webhook::Validate {
            self.metrics.decided(outcome);
        }
    }

    fn nothing(&self, mut response: AdmissionResponse, reason: &str) -> AdmissionReview<DynamicObject> {
        self.decided(Outcome::NotApplicable);
        response.audit_annotations.insert("not-asked".to_owned(), reason.chars().take(400).collect());
        response.into_review()
    }
}
