//! Keys for AWS's services, from where its own libraries look for them: the environment, a web identity (IRSA), or the
//! agent of the container (EKS Pod Identity).

use http::{HeaderValue, header::AUTHORIZATION};
use reqwest::{Method, Request, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    Caller, ExchangeError, ExchangeSettingsError,
    environment::{self, Environment},
    sigv4::AccessKey,
};

/// Hosts that plain HTTP may bring keys from: the agents of EKS and ECS, and this pod itself.
const AGENTS: [&str; 5] = ["169.254.170.23", "[fd00:ec2::23]", "169.254.170.2", "127.0.0.1", "[::1]"];
const TASK_AGENT: &str = "http://169.254.170.2";
const ROLE_HINT: &str =
    "annotate Zastava's service accounts with eks.amazonaws.com/role-arn, or associate a pod identity";

/// Where the keys come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Environment(AccessKey),
    WebIdentity { sts: Url, role: String, session: String, token_file: String },
    Agent { url: Url, token_file: Option<String> },
    Nowhere,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentAnswer {
    access_key_id: String,
    secret_access_key: SecretString,
    token: Option<SecretString>,
}

impl Source {
    /// As this environment has it; `sts` is asked for a web identity.
    pub(super) fn of(environment: &Environment, sts: Url) -> Result<Self, ExchangeSettingsError> {
        let owned = |name| environment.get(name).map(str::to_owned);
        if let (Some(id), Some(secret)) = (owned("AWS_ACCESS_KEY_ID"), owned("AWS_SECRET_ACCESS_KEY")) {
            let session = owned("AWS_SESSION_TOKEN").map(Into::into);
            return Ok(Self::Environment(AccessKey { id, secret: secret.into(), session }));
        }
        if let (Some(role), Some(token_file)) = (owned("AWS_ROLE_ARN"), owned("AWS_WEB_IDENTITY_TOKEN_FILE")) {
            let session = owned("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "zastava".to_owned());
            return Ok(Self::WebIdentity { sts, role, session, token_file });
        }
        let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
        let relative = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
        let (variable, address) = match (environment.get(full), environment.get(relative)) {
            (Some(full_uri), _) => (full, full_uri.to_owned()),
            (None, Some(path)) => (relative, format!("{TASK_AGENT}{path}")),
            (None, None) => return Ok(Self::Nowhere),
        };
        let wrong = |why: &str| ExchangeSettingsError::Address { variable, why: why.to_owned() };
        let url = Url::parse(&address).map_err(|_| wrong("is no address"))?;
        if url.scheme() != "https" && !AGENTS.contains(&url.host_str().unwrap_or_default()) {
            return Err(wrong("brings keys over plain HTTP from a host that is no agent of AWS"));
        }
        Ok(Self::Agent { url, token_file: owned("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") })
    }

    /// The address that only this source has a need for.
    pub(super) fn address(&self) -> Option<&Url> {
        match self {
            Self::Agent { url, .. } => Some(url),
            Self::WebIdentity { .. } | Self::Environment(_) | Self::Nowhere => None,
        }
    }

    pub(super) async fn key(&self, caller: &Caller) -> Result<AccessKey, ExchangeError> {
        match self {
            Self::Environment(key) => Ok(key.clone()),
            Self::WebIdentity { sts, role, session, token_file } => {
                let token = environment::token("AWS_WEB_IDENTITY_TOKEN_FILE", token_file).await?;
                let answered = caller
                    .post(
                        sts,
                        &[
                            ("Action", "AssumeRoleWithWebIdentity"),
                            ("Version", "2011-06-15"),
                            ("RoleArn", role),
                            ("RoleSessionName", session),
                            ("WebIdentityToken", token.expose_secret()),
                        ],
                    )
                    .await?;
                assumed(&answered.body).ok_or_else(|| answered.unusable("credentials"))
            }
            Self::Agent { url, token_file } => {
                let mut request = Request::new(Method::GET, url.clone());
                if let Some(path) = token_file {
                    let variable = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
                    let token = environment::token(variable, path).await?;
                    let mut header = HeaderValue::from_str(token.expose_secret()).map_err(|_| {
                        let why = "is no value of a header".to_owned();
                        ExchangeError::Token { variable, path: path.clone(), why }
                    })?;
                    header.set_sensitive(true);
                    request.headers_mut().insert(AUTHORIZATION, header);
                }
                let answered = caller.call(request).await?;
                let AgentAnswer { access_key_id: id, secret_access_key: secret, token } =
                    answered.json("credentials")?;
                Ok(AccessKey { id, secret, session: token })
            }
            Self::Nowhere => Err(ExchangeError::Missing { variable: "AWS_ROLE_ARN", hint: ROLE_HINT }),
        }
    }
}

/// The key in the XML of `AssumeRoleWithWebIdentityResponse`.
fn assumed(body: &[u8]) -> Option<AccessKey> {
    let text = std::str::from_utf8(body).ok()?;
    let credentials = element(text, "Credentials")?;
    let filled = |name| element(credentials, name).filter(|value| !value.is_empty() && !value.contains(['<', '&']));
    Some(AccessKey {
        id: filled("AccessKeyId")?.to_owned(),
        secret: filled("SecretAccessKey")?.into(),
        session: Some(filled("SessionToken")?.into()),
    })
}

/// The text of the first element of a name. AWS's answers have no attributes there, and no entities.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(value, _)| value.trim())
}
