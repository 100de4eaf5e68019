//! Google's registries: the access token of the pod's service account, from the metadata server. On GKE that is the one of
//! Workload Identity (<https://cloud.google.com/artifact-registry/docs/docker/authentication#token>).

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use http::HeaderValue;
use reqwest::{Method, Request, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zastava_core::settings::registries::CloudCredentials;

use super::{
    Caller, Exchange, ExchangeError, ExchangeSettingsError, Exchanged, caller::Builder, environment::Environment,
};
use crate::keychain::Credential;

/// Its address: a name could be answered by somebody else.
const METADATA: &str = "169.254.169.254";
const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const FLAVOR: &str = "metadata-flavor";
const EXAMPLE: &str = "europe-docker.pkg.dev";

/// Exchanges for one of Google's registries.
pub(super) struct Gar {
    caller: Caller,
    metadata: Url,
}

#[derive(Deserialize)]
struct Answer {
    access_token: SecretString,
    expires_in: u64,
}

impl Gar {
    pub(super) fn new(host: &str, environment: &Environment, caller: &Builder) -> Result<Self, ExchangeSettingsError> {
        if host != "gcr.io" && !host.ends_with(".gcr.io") && !host.ends_with(".pkg.dev") {
            return Err(ExchangeSettingsError::Host { kind: CloudCredentials::Gar, example: EXAMPLE });
        }
        let variable = "GCE_METADATA_HOST";
        let server = environment.get(variable).unwrap_or(METADATA);
        let metadata = Url::parse(&format!("http://{server}{PATH}"))
            .map_err(|error| ExchangeSettingsError::Address { variable, why: error.to_string() })?;
        Ok(Self { caller: caller.build([&metadata])?, metadata })
    }

    async fn token(&self) -> Result<Exchanged, ExchangeError> {
        let mut request = Request::new(Method::GET, self.metadata.clone());
        request.headers_mut().insert(FLAVOR, HeaderValue::from_static("Google"));
        let answered = self.caller.call(request).await?;
        // Whoever else answers there is not to be believed.
        if answered.headers.get(FLAVOR).is_none_or(|value| value != "Google") {
            return Err(answered.unusable("access token (it is no metadata server)"));
        }
        let answer: Answer = answered.json("access token")?;
        if answer.access_token.expose_secret().is_empty() {
            return Err(answered.unusable("access token"));
        }
        Ok(Exchanged {
            credential: Credential::Basic { username: "oauth2accesstoken".to_owned(), password: answer.access_token },
            lifetime: Duration::from_secs(answer.expires_in),
        })
    }
}

impl Exchange for Gar {
    fn exchange(&self) -> BoxFuture<'_, Result<Exchanged, ExchangeError>> {
        self.token().boxed()
    }
}
