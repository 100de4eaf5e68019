//! Certificates of the webhook and the intake.
//!
//! One authority in a Secret that only the operator reads, one leaf Secret a server. A new authority is published as
//! trusted before anything is issued by it, and an old one stays trusted for as long as a replica serves under it, so
//! that neither rotation nor the loss of a Secret costs a request.

mod authority;
mod bundle;
mod plan;
mod probe;
mod secret;

pub use self::{
    authority::{Authority, CertificateError, Issued},
    bundle::TrustBundle,
    plan::{
        Action, INTAKE_PROPAGATION, Seen, WEBHOOK_PROPAGATION, authority_is_due, decide, retained, retained_for_intake,
    },
    probe::{ProbeError, Served, probe},
    secret::{CA_KEY, authority_secret, leaf_secret, read_authority, read_leaf, read_pair},
};

/// Secret of the authority, with its key.
pub const CA_SECRET: &str = "zastava-ca";
/// Secret of the webhook's leaf.
pub const WEBHOOK_SECRET: &str = "zastava-webhook-tls";
/// Secret of the intake's leaf.
pub const INTAKE_SECRET: &str = "zastava-intake-tls";
/// ConfigMap by which observers and webhooks trust the intake, in both namespaces; key `ca.crt`.
pub const TRUST_CONFIG_MAP: &str = "zastava-intake-ca";
