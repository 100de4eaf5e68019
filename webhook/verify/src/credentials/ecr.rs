//! Amazon ECR: a key for AWS's services, exchanged for a password
//! (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use jiff::Timestamp;
use reqwest::{Method, Request, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zastava_core::settings::registries::CloudCredentials;

use super::{
    Caller, Exchange, ExchangeError, ExchangeSettingsError, Exchanged, aws,
    caller::Builder,
    environment::Environment,
    sigv4::{self, Signed},
};
use crate::keychain::Credential;

const JSON: &str = "application/x-amz-json-1.1";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
const EXAMPLE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// Exchanges for the registry of one account in one region.
pub(super) struct Ecr {
    caller: Caller,
    source: aws::Source,
    api: Url,
    region: String,
}

/// Where a registry's services are.
#[derive(Debug, PartialEq, Eq)]
struct Services {
    region: String,
    api: String,
    sts: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Vec<Authorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: SecretString,
    expires_at: f64,
}

impl Ecr {
    pub(super) fn new(host: &str, environment: &Environment, caller: &Builder) -> Result<Self, ExchangeSettingsError> {
        let kind = CloudCredentials::Ecr;
        let services = services(host).ok_or(ExchangeSettingsError::Host { kind, example: EXAMPLE })?;
        let (sts, sts_is_set) = endpoint(environment, "AWS_ENDPOINT_URL_STS", &services.sts)?;
        let (api, api_is_set) = endpoint(environment, "AWS_ENDPOINT_URL_ECR", &services.api)?;
        let source = aws::Source::of(environment, sts.clone())?;
        let set =
            [(&sts, sts_is_set), (&api, api_is_set)].into_iter().filter_map(|(url, is_set)| is_set.then_some(url));
        let caller = caller.build(set.chain(source.address()))?;
        Ok(Self { caller, source, api, region: services.region })
    }

    async fn password(&self) -> Result<Exchanged, ExchangeError> {
        let key = self.source.key(&self.caller).await?;
        let (body, now) = (b"{}".as_slice(), Timestamp::now());
        let (date, host) = (sigv4::date(now), authority(&self.api));
        let mut headers = vec![("content-type", JSON), ("host", &host), ("x-amz-date", &date)];
        if let Some(session) = &key.session {
            headers.push(("x-amz-security-token", session.expose_secret()));
        }
        headers.push(("x-amz-target", TARGET));
        let signed = Signed {
            method: "POST",
            path: "/",
            headers: &headers,
            body,
            region: &self.region,
            service: "ecr",
            at: now,
        };
        let authorization = sigv4::authorization(&key, &signed);
        let mut request = Request::new(Method::POST, self.api.clone());
        *request.body_mut() = Some(body.into());
        let unusable = || ExchangeError::Unusable { host: self.api.to_string(), what: "key" };
        for (name, value) in headers {
            // The client writes the host itself.
            if name != "host" {
                let mut value = HeaderValue::from_str(value).map_err(|_| unusable())?;
                value.set_sensitive(name == "x-amz-security-token");
                let name = if name == "content-type" { CONTENT_TYPE } else { HeaderName::from_static(name) };
                request.headers_mut().insert(name, value);
            }
        }
        let mut value = HeaderValue::from_str(&authorization).map_err(|_| unusable())?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        let answered = self.caller.call(request).await?;
        let answer: Answer = answered.json("authorization token")?;
        let given = answer.authorization_data.into_iter().next();
        let given = given.ok_or_else(|| answered.unusable("authorization token"))?;
        let decoded = STANDARD.decode(given.authorization_token.expose_secret()).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let (username, password) = decoded
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| answered.unusable("authorization token"))?;
        let ends = Duration::try_from_secs_f64(given.expires_at).unwrap_or_default();
        let since_1970 = Duration::try_from(now.as_duration()).unwrap_or_default();
        Ok(Exchanged {
            credential: Credential::Basic { username: username.to_owned(), password: password.into() },
            lifetime: ends.saturating_sub(since_1970),
        })
    }
}

impl Exchange for Ecr {
    fn exchange(&self) -> BoxFuture<'_, Result<Exchanged, ExchangeError>> {
        self.password().boxed()
    }
}

/// The services of `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, of its FIPS, dual-stack and other partitions' forms.
fn services(host: &str) -> Option<Services> {
    let (account, rest) = host.split_once('.')?;
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (service, is_dual) = match rest.strip_prefix("dkr.") {
        Some(rest) => (rest, false),
        None => (rest.strip_prefix("dkr-")?, true),
    };
    let (service, rest) = service.split_once('.')?;
    let (region, domain) = rest.split_once('.')?;
    let is_region = region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !matches!(service, "ecr" | "ecr-fips") || region.is_empty() || !is_region {
        return None;
    }
    let (sts, dual) = match (domain, is_dual) {
        ("amazonaws.com", false) | ("on.aws", true) => ("amazonaws.com", "api.aws"),
        ("amazonaws.com.cn", false) | ("on.amazonwebservices.com.cn", true) => {
            ("amazonaws.com.cn", "api.amazonwebservices.com.cn")
        }
        ("amazonaws.eu", false) => ("amazonaws.eu", "api.amazonwebservices.eu"),
        _ => return None,
    };
    let api = match (service, is_dual) {
        (service, true) => format!("https://{service}.{region}.{dual}/"),
        ("ecr-fips", false) => format!("https://ecr-fips.{region}.{sts}/"),
        (_, false) => format!("https://api.ecr.{region}.{sts}/"),
    };
    Some(Services { region: region.to_owned(), api, sts: format!("https://sts.{region}.{sts}/") })
}

/// A service's address, and whether the environment set it.
fn endpoint(
    environment: &Environment,
    variable: &'static str,
    otherwise: &str,
) -> Result<(Url, bool), ExchangeSettingsError> {
    let set = environment.get(variable);
    let url = Url::parse(set.unwrap_or(otherwise));
    let url = url.map_err(|error| ExchangeSettingsError::Address { variable, why: error.to_string() })?;
    Ok((url, set.is_some()))
}

/// As the client writes it into the header.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_services_are_in_its_region_and_partition() {
        for (host, api, sts) in [
            (EXAMPLE, "api.ecr.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "ecr-fips.us-gov-west-1.amazonaws.com",
                "sts.us-gov-west-1.amazonaws.com",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "api.ecr.cn-north-1.amazonaws.com.cn",
                "sts.cn-north-1.amazonaws.com.cn",
            ),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", "ecr.eu-west-1.api.aws", "sts.eu-west-1.amazonaws.com"),
        ] {
            let found = services(host).unwrap();
            assert_eq!((found.api, found.sts), (format!("https://{api}/"), format!("https://{sts}/")), "{host}");
        }
        for other in [
            "registry.example",
            "12345.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "123456789012.dkr.ecr.eu-west-1.on.aws",
            "123456789012.dkr.ecr.eu_west/x.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:5000",
        ] {
            assert_eq!(services(other), None, "{other}");
        }
    }
}
