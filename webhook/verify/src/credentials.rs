//! Credentials that a cloud gives for its registry, in exchange for who this pod is: ECR, GAR and ACR.
//!
//! Order of data: the pod's [`environment`] → one [`Exchange`] a registry → [`held`] until shortly before they end.

mod acr;
mod aws;
mod caller;
mod ecr;
mod environment;
mod gar;
mod held;
mod sigv4;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use zastava_core::{egress::GuardError, settings::registries::CloudCredentials};

pub use self::environment::Environment;
pub(crate) use self::{
    caller::{Builder as CallerBuilder, Caller},
    held::{Fresh, Held},
};
use crate::{
    answer::{Unknown, UnknownCause},
    keychain::Credential,
};

/// One way to credentials for one registry.
pub(crate) trait Exchange: Send + Sync {
    /// New ones. Asks the network; [`Held`] decides when.
    fn exchange(&self) -> BoxFuture<'_, Result<Exchanged, ExchangeError>>;
}

/// What came of an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Exchanged {
    pub(crate) credential: Credential,
    pub(crate) lifetime: Duration,
}

/// Why there are no credentials.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The cloud put nothing into this pod that could be exchanged.
    #[error("{variable} is not set: {hint}")]
    Missing {
        /// The environment variable.
        variable: &'static str,
        /// Who sets it.
        hint: &'static str,
    },
    /// A token that the cloud put into this pod can't be read.
    #[error("{variable}={path}: {why}")]
    Token {
        /// The environment variable that names it.
        variable: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A service that was asked did not answer, or its address is refused.
    #[error("{host}: {why}")]
    Unanswered {
        /// Who was asked.
        host: String,
        /// What went wrong.
        why: String,
    },
    /// A service that was asked refused.
    #[error("{host} answered {status}{code}")]
    Refused {
        /// Who was asked.
        host: String,
        /// What it answered.
        status: u16,
        /// Its own name for the reason, after a blank; or nothing.
        code: String,
    },
    /// A service answered something else than was asked.
    #[error("{host} sent no usable {what}")]
    Unusable {
        /// Who was asked.
        host: String,
        /// What was expected.
        what: &'static str,
    },
}

impl ExchangeError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "exchange_environment",
            Self::Token { .. } => "exchange_token",
            Self::Unanswered { .. } => "exchange_unanswered",
            Self::Refused { .. } => "exchange_refused",
            Self::Unusable { .. } => "exchange_unusable",
        }
    }

    fn unknown(&self, registry: &str) -> Unknown {
        Unknown::new(UnknownCause::CredentialExchange, format!("no credentials for {registry}: {self}"))
    }
}

/// Settings that no exchange can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeSettingsError {
    /// The host is none of that cloud's.
    #[error("credentials {kind:?} are for hosts such as {example}: correct the host, or remove credentials")]
    Host {
        /// Which cloud's.
        kind: CloudCredentials,
        /// A host of it.
        example: &'static str,
    },
    /// An address in the environment is none, or one that credentials may not be read from.
    #[error("{variable}: {why}")]
    Address {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// No guard can be made of the addresses.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// No client could be built.
    #[error("{0}")]
    Client(String),
}

/// The exchange for a registry, if its host is of that cloud.
pub(crate) fn exchange(
    kind: CloudCredentials,
    host: &str,
    environment: &Environment,
    caller: &CallerBuilder,
) -> Result<Arc<dyn Exchange>, ExchangeSettingsError> {
    Ok(match kind {
        CloudCredentials::Ecr => Arc::new(ecr::Ecr::new(host, environment, caller)?),
        CloudCredentials::Gar => Arc::new(gar::Gar::new(host, environment, caller)?),
        CloudCredentials::Acr => Arc::new(acr::Acr::new(host, environment, caller)?),
    })
}

#[cfg(test)]
mod tests;
