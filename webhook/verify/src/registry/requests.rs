//! What registries are asked, counted. Labels come from closed sets; a redirect that is followed is part of its request.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use reqwest::Response;
use zastava_core::egress::EgressError;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum What {
    Manifest,
    Blob,
    Referrers,
    Token,
    /// Of credentials, with a cloud's services.
    Exchange,
}

impl What {
    /// What we can read; a registry must not convert for us, or the digest would be another.
    pub(super) fn accept(self) -> &'static str {
        match self {
            Self::Manifest => {
                "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                 application/vnd.docker.distribution.manifest.list.v2+json, \
                 application/vnd.docker.distribution.manifest.v2+json"
            }
            Self::Blob => "application/octet-stream, */*",
            Self::Referrers => "application/vnd.oci.image.index.v1+json",
            Self::Token | Self::Exchange => "application/json",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum Result {
    Answered,
    NotFound,
    Unauthorized,
    RateLimited,
    Failed,
    Unreachable,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    what: What,
    result: Result,
}

/// The counters; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Family<Labels, Counter>);

impl Requests {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests to registries and their token services, by what was asked and what came of it";
        registry.register("zastava_registry_requests", help, self.0.clone());
    }

    pub(crate) fn count(&self, what: What, sent: &std::result::Result<Response, EgressError>) {
        let result = match sent {
            Ok(response) => match response.status().as_u16() {
                200..=299 => Result::Answered,
                401 | 403 => Result::Unauthorized,
                404 => Result::NotFound,
                429 => Result::RateLimited,
                _ => Result::Failed,
            },
            Err(EgressError::Http(_)) => Result::Unreachable,
            Err(EgressError::Refused(_) | EgressError::Redirect { .. }) => Result::Refused,
        };
        self.0.get_or_create(&Labels { what, result }).inc();
    }
}

macro_rules! label_value {
    ($($label:ty),*) => {$(
        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> std::result::Result<(), std::fmt::Error> {
                let text: &'static str = self.into();
                text.encode(encoder)
            }
        }
    )*};
}
label_value!(What, Result);
