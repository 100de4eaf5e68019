//! The three answers of a registry: found, none, unknown. Unknown never reads as "none", nor as a pass.

use std::time::Duration;

/// What a registry answered to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It is there.
    Found(T),
    /// The registry said that there is none.
    None,
    /// Nothing can be said.
    Unknown(Unknown),
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unknown {
    /// The closed class.
    pub cause: UnknownCause,
    /// What happened, with the registry's host and status; at most 512 bytes, no secret.
    pub message: String,
    /// What the registry asked to wait, at most 30 s.
    pub retry_after: Option<Duration>,
}

/// Why nothing can be said, from a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum UnknownCause {
    /// The caller's deadline passed; the work goes on.
    Deadline,
    /// No connection, or it broke.
    Unreachable,
    /// Address refused by the guarded connector.
    Guarded,
    /// 401 or 403, whatever credentials were tried.
    Unauthorized,
    /// A cloud gave no credentials for its registry.
    CredentialExchange,
    /// 429.
    RateLimited,
    /// Any other answer that is no answer.
    RegistryError,
    /// Content does not hash to its digest, or the registry contradicts itself.
    Integrity,
    /// A bound on size, count or pages was reached.
    TooLarge,
    /// The registry knows no such image. A private image may be hidden so: that is why this is no refusal.
    ImageNotFound,
    /// The image is of a form that can't be read.
    Unsupported,
    /// Too much to do at once.
    Busy,
}

impl UnknownCause {
    /// The closed class, for metrics.
    pub fn category(self) -> &'static str {
        self.into()
    }

    /// What to do about it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Deadline => "try again: verification goes on and its result is kept",
            Self::Unreachable => "check that the registry is up and reachable from Zastava's namespace",
            Self::Guarded => "configure this registry in Zastava's settings if its address is meant",
            Self::Unauthorized => {
                "give Zastava credentials for this repository: registries.pullSecrets.namespaces or a configured registry"
            }
            Self::CredentialExchange => {
                "check the workload identity of Zastava's service accounts and its rights on this registry \
                 (docs/admission/registries.md)"
            }
            Self::RateLimited => "try again later, or configure credentials or a mirror for this registry",
            Self::RegistryError => "look at the registry's log",
            Self::Integrity => "the registry's answers contradict each other: treat it as compromised until explained",
            Self::TooLarge => "remove attached artifacts that are not needed",
            Self::ImageNotFound => "check the name, or give Zastava credentials for this repository",
            Self::Busy => "try again",
            Self::Unsupported => "push the image as an OCI image or a Docker schema 2 image",
        }
    }
}

impl Unknown {
    /// With a message cut to its bound.
    pub fn new(cause: UnknownCause, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > 512 {
            message.truncate(message.floor_char_boundary(512));
        }
        Self { cause, message, retry_after: None }
    }
}

impl<T> Answer<T> {
    /// What is there. An image that is not there may be a private one, so that is unknown too.
    pub(crate) fn or_no_image(self, message: impl FnOnce() -> String) -> Result<T, Unknown> {
        match self {
            Self::Found(value) => Ok(value),
            Self::None => Err(Unknown::new(UnknownCause::ImageNotFound, message())),
            Self::Unknown(unknown) => Err(unknown),
        }
    }

    /// The same answer about something else.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Found(value) => Answer::Found(f(value)),
            Self::None => Answer::None,
            Self::Unknown(unknown) => Answer::Unknown(unknown),
        }
    }
}
