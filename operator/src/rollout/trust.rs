//! Certificates in a pass: what is live goes into `certificates`' pure decisions, what they say is written.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::{ConfigMap, Secret},
};
use tokio::time::Instant;

use super::{
    apply::{Applier, ApplyError},
    build::{Component, Owners, Trust, metadata},
    installation::Installation,
    live::{Object, Snapshot},
    replicas::{Probes, Replica},
};
use crate::{
    certificates::{
        Action, Authority, CA_KEY, CertificateError, INTAKE_PROPAGATION, Issued, Seen, Served, TrustBundle,
        WEBHOOK_PROPAGATION, authority_is_due, authority_secret, decide, leaf_secret, read_authority, read_leaf,
        retained, retained_for_intake,
    },
    metrics::Metrics,
};

/// Why trust could not be established.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A Secret could not be written.
    #[error("{}: {source}", object.describe())]
    Apply {
        /// Which.
        object: Object,
        /// Why.
        source: ApplyError,
    },
}

impl TrustError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Certificate(error) => error.category(),
            Self::Apply { source, .. } => source.category(),
        }
    }
}

/// For how long something has held without a break, as this process saw it.
#[derive(Debug, Default)]
pub(super) struct Since(Option<(String, Instant)>);

impl Since {
    /// For how long `key` has held; none while it does not.
    pub(super) fn held(&mut self, key: Option<&str>) -> Option<Duration> {
        match (key, &self.0) {
            (None, _) => self.0 = None,
            (Some(key), Some((known, _))) if known == key => {}
            (Some(key), _) => self.0 = Some((key.to_owned(), Instant::now())),
        }
        self.0.as_ref().map(|(_, since)| since.elapsed())
    }
}

/// What a pass knows of trust, and carries to the next one.
#[derive(Debug, Default)]
pub struct Keeper {
    probes: Probes,
    webhook: Since,
    intake: Since,
}

/// What trust looks like in this pass.
pub struct Outcome {
    /// Whom to trust.
    pub trust: Trust,
    /// Ready replicas that serve the published leaf.
    pub serving: u32,
    /// When to look again, if something waits.
    pub again: Option<Duration>,
}

/// What a pass gives to the keeper.
pub struct Circumstances<'a> {
    /// Settings.
    pub installation: &'a Installation,
    /// What is live.
    pub snapshot: &'a Snapshot,
    /// The webhook's replicas.
    pub replicas: &'a [Replica],
    /// Who owns the Secrets.
    pub owners: &'a Owners,
    /// The leaf that this process's intake serves.
    pub serving: Option<Issued>,
    /// The time.
    pub now: Timestamp,
}

impl Keeper {
    /// Mints, issues and publishes what is due.
    ///
    /// # Errors
    /// [`TrustError`]; the pass is then tried again.
    pub async fn keep(
        &mut self,
        at: &Circumstances<'_>,
        applier: &mut Applier,
        metrics: &Metrics,
    ) -> Result<Outcome, TrustError> {
        let stored = at.snapshot.typed::<Secret, _>(Object::CaSecret).as_ref().and_then(read_authority);
        let authority = match stored {
            Some(stored) if !authority_is_due(Some(&stored), at.now) => stored,
            _ => {
                let minted = Authority::mint(at.now)?;
                tracing::info!(fingerprint = minted.cert.fingerprint, "minted a certificate authority");
                at.write(Object::CaSecret, |meta| authority_secret(meta, &minted), applier).await?;
                minted
            }
        };
        let ca = &authority.cert;
        metrics.expires("ca", ca.not_after);

        let leaf_of = |object| {
            let read = at.snapshot.typed::<Secret, _>(object).as_ref().and_then(read_leaf);
            read.map_or_else(Default::default, |(leaf, issuers)| (Some(leaf), issuers))
        };
        let (webhook_leaf, mut webhook_known) = leaf_of(Object::WebhookSecret);
        let (intake_leaf, mut intake_known) = leaf_of(Object::IntakeSecret);
        let configured = configured(at.snapshot);
        for bundle in &configured {
            webhook_known.extend(bundle.clone());
        }
        let trusting = [Object::WebhookTrust, Object::ObserverTrust].map(|o| config_map_bundle(at.snapshot, o));
        for bundle in &trusting {
            intake_known.extend(bundle.clone());
        }

        let mut accepted = webhook_known.clone();
        accepted.add(ca.clone());
        let published = webhook_leaf.as_ref().map(|leaf| leaf.fingerprint.clone());
        let published = published.as_deref();
        self.probes.ask(at.replicas, &at.installation.webhook_name(), &accepted, published).await;
        let served: Vec<Option<Served>> = at.replicas.iter().map(|r| self.probes.of(r).cloned()).collect();
        let is_serving = |one: &&Replica| {
            let leaf = self.probes.of(one).map(|known| known.fingerprint.as_str());
            one.ready && leaf.is_some() && leaf == published
        };
        let count = at.replicas.iter().filter(is_serving).count();
        let serving = u32::try_from(count).unwrap_or(u32::MAX);

        let key = |trusted: bool| trusted.then_some(ca.fingerprint.as_str());
        let webhook = Seen {
            trusted_for: self.webhook.held(key(configured.iter().all(|bundle| bundle.contains(ca)))),
            free: configured.is_empty(),
            leaf: webhook_leaf,
        };
        let intake = Seen {
            trusted_for: self.intake.held(key(trusting.iter().all(|bundle| bundle.contains(ca)))),
            free: at.serving.as_ref().is_none_or(|leaf| leaf.issuer == ca.subject),
            leaf: intake_leaf,
        };
        let trust = Trust {
            webhook: retained(ca, webhook_known, webhook.leaf.as_ref(), &served, at.now),
            intake: retained_for_intake(ca, intake_known, intake.leaf.as_ref(), at.now),
        };

        let settled = served.iter().all(|s| s.as_ref().is_some_and(|s| Some(s.fingerprint.as_str()) == published));
        let mut again = (!settled).then_some(Duration::from_secs(2));
        for (object, name, label, seen, propagation) in [
            (Object::WebhookSecret, at.installation.webhook_name(), "webhook", &webhook, WEBHOOK_PROPAGATION),
            (Object::IntakeSecret, at.installation.intake_name(), "intake", &intake, INTAKE_PROPAGATION),
        ] {
            if let Some(leaf) = &seen.leaf {
                metrics.expires(label, leaf.not_after);
            }
            match decide(ca, seen, propagation, at.now) {
                Action::Keep => {}
                Action::Issue => {
                    let leaf = authority.issue(&[name], at.now)?;
                    tracing::info!(server = label, fingerprint = leaf.cert.fingerprint, "issued a certificate");
                    at.write(object, |meta| leaf_secret(meta, &leaf, ca), applier).await?;
                    again = Some(Duration::from_secs(1));
                }
                Action::Wait(wait) => again = Some(again.map_or(wait, |a| a.min(wait))),
            }
        }
        Ok(Outcome { trust, serving, again })
    }
}

impl Circumstances<'_> {
    async fn write(
        &self,
        object: Object,
        secret: impl FnOnce(k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Secret,
        applier: &mut Applier,
    ) -> Result<(), TrustError> {
        let Self { installation, owners, snapshot, .. } = self;
        let namespace = Some(installation.namespace.as_str());
        let meta = metadata(installation, Component::Operator, object.name(), namespace, &owners.release);
        applier
            .apply(object, &secret(meta), installation, snapshot)
            .await
            .map(|_| ())
            .map_err(|source| TrustError::Apply { object, source })
    }
}

/// The bundle of each webhook configuration that is live.
pub(super) fn configured(snapshot: &Snapshot) -> Vec<TrustBundle> {
    let mutating = snapshot.typed::<MutatingWebhookConfiguration, _>(Object::Mutating).map(|configuration| {
        configuration.webhooks.into_iter().flatten().map(|webhook| webhook.client_config).collect::<Vec<_>>()
    });
    let validating = snapshot.typed::<ValidatingWebhookConfiguration, _>(Object::Validating).map(|configuration| {
        configuration.webhooks.into_iter().flatten().map(|webhook| webhook.client_config).collect()
    });
    [mutating, validating]
        .into_iter()
        .flatten()
        .map(|clients| {
            let mut bundle = TrustBundle::default();
            for pem in clients.into_iter().filter_map(|client| client.ca_bundle) {
                bundle.extend(TrustBundle::parse(&String::from_utf8_lossy(&pem.0)));
            }
            bundle
        })
        .collect()
}

fn config_map_bundle(snapshot: &Snapshot, object: Object) -> TrustBundle {
    let data = snapshot.typed::<ConfigMap, _>(object).and_then(|map| map.data);
    data.and_then(|data| data.get(CA_KEY).map(|pem| TrustBundle::parse(pem))).unwrap_or_default()
}

#[cfg(test)]
mod tests;
