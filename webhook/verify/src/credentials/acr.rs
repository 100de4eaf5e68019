//! Azure's registries: the pod's federated token, exchanged for one of Microsoft Entra, and that for a refresh token of
//! the registry (<https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zastava_core::settings::registries::CloudCredentials;

use super::{
    Caller, Exchange, ExchangeError, ExchangeSettingsError, Exchanged,
    caller::Builder,
    environment::{self, Environment},
};
use crate::keychain::Credential;

const AUTHORITY: &str = "https://login.microsoftonline.com/";
/// Tokens for registries alone: those for all of Azure may be switched off at a registry.
const SCOPE: &str = "https://containerregistry.azure.net/.default";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const HINT: &str = "give Zastava's pods the label azure.workload.identity/use and its service accounts the annotation \
                    azure.workload.identity/client-id";
const EXAMPLE: &str = "example.azurecr.io";
/// A refresh token that does not say when it ends.
const LIFETIME: Duration = Duration::from_hours(1);

/// Exchanges for one of Azure's registries.
pub(super) struct Acr {
    caller: Caller,
    environment: Environment,
    authority: Url,
    /// The registry, as its tokens name it.
    service: String,
    exchange: Url,
}

#[derive(Deserialize)]
struct EntraAnswer {
    access_token: SecretString,
}

#[derive(Deserialize)]
struct RegistryAnswer {
    refresh_token: SecretString,
}

impl Acr {
    pub(super) fn new(host: &str, environment: &Environment, caller: &Builder) -> Result<Self, ExchangeSettingsError> {
        if ![".azurecr.io", ".azurecr.cn", ".azurecr.us"].iter().any(|domain| host.ends_with(domain)) {
            return Err(ExchangeSettingsError::Host { kind: CloudCredentials::Acr, example: EXAMPLE });
        }
        Self::at(&format!("https://{host}/"), environment, caller)
    }

    /// Over the registry at an address.
    pub(super) fn at(
        registry: &str,
        environment: &Environment,
        caller: &Builder,
    ) -> Result<Self, ExchangeSettingsError> {
        let wrong = |variable, why: String| ExchangeSettingsError::Address { variable, why };
        let variable = "AZURE_AUTHORITY_HOST";
        let set = environment.get(variable);
        let authority = Url::parse(set.unwrap_or(AUTHORITY)).map_err(|error| wrong(variable, error.to_string()))?;
        let registry = Url::parse(registry).map_err(|error| wrong("host", error.to_string()))?;
        let exchange = registry.join("/oauth2/exchange").map_err(|error| wrong("host", error.to_string()))?;
        let caller = caller.build(set.map(|_| &authority).into_iter().chain([&registry]))?;
        let service = match registry.port() {
            Some(port) => format!("{}:{port}", registry.host_str().unwrap_or_default()),
            None => registry.host_str().unwrap_or_default().to_owned(),
        };
        Ok(Self { caller, environment: environment.clone(), authority, service, exchange })
    }

    async fn refresh_token(&self) -> Result<Exchanged, ExchangeError> {
        let client = self.environment.require("AZURE_CLIENT_ID", HINT)?;
        let tenant = self.environment.require("AZURE_TENANT_ID", HINT)?;
        let variable = "AZURE_FEDERATED_TOKEN_FILE";
        let assertion = environment::token(variable, self.environment.require(variable, HINT)?).await?;
        let entra = self.authority.join(&format!("/{tenant}/oauth2/v2.0/token")).map_err(|_| {
            let hint = "it is no tenant: look at the annotations of Zastava's service accounts";
            ExchangeError::Missing { variable: "AZURE_TENANT_ID", hint }
        })?;
        let answered = self
            .caller
            .post(
                &entra,
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", client),
                    ("scope", SCOPE),
                    ("client_assertion_type", ASSERTION),
                    ("client_assertion", assertion.expose_secret()),
                ],
            )
            .await?;
        let EntraAnswer { access_token } = answered.json("access token")?;
        let answered = self
            .caller
            .post(
                &self.exchange,
                &[
                    ("grant_type", "access_token"),
                    ("service", &self.service),
                    ("tenant", tenant),
                    ("access_token", access_token.expose_secret()),
                ],
            )
            .await?;
        let RegistryAnswer { refresh_token } = answered.json("refresh token")?;
        if refresh_token.expose_secret().is_empty() {
            return Err(answered.unusable("refresh token"));
        }
        let lifetime = left(refresh_token.expose_secret()).unwrap_or(LIFETIME);
        Ok(Exchanged { credential: Credential::IdentityToken(refresh_token), lifetime })
    }
}

impl Exchange for Acr {
    fn exchange(&self) -> BoxFuture<'_, Result<Exchanged, ExchangeError>> {
        self.refresh_token().boxed()
    }
}

/// Until a JWT ends, by its own word: that only tells us when to ask again.
fn left(token: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    Duration::try_from(Timestamp::from_second(exp).ok()?.duration_since(Timestamp::now())).ok()
}
