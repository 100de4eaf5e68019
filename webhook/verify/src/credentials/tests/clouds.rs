use axum::{http::StatusCode, response::IntoResponse};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use serde_json::json;

use super::{
    super::{
        acr::Acr,
        ecr::Ecr,
        gar::Gar,
        sigv4::{AccessKey, Signed, authorization},
    },
    *,
};

const ECR_HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// What AWS documents as the answer of AssumeRoleWithWebIdentity.
fn assumed() -> String {
    r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>system:serviceaccount:zastava-system:zastava-webhook</SubjectFromWebIdentityToken>
    <Audience>sts.amazonaws.com</Audience>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/zastava/zastava</Arn></AssumedRoleUser>
    <Credentials>
      <SessionToken>AQoDYXdzEE0a8ANXXXXXXXXNO1ewxE5TijQyp+IEXAMPLE==</SessionToken>
      <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY</SecretAccessKey>
      <Expiration>2014-10-24T23:00:23Z</Expiration>
      <AccessKeyId>ASgeIAIOSFODNN7EXAMPLE</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>ad4156e9-bce1-11e2-82e6-6b6efEXAMPLE</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>"#
        .to_owned()
}

fn assumed_key() -> AccessKey {
    AccessKey {
        id: "ASgeIAIOSFODNN7EXAMPLE".to_owned(),
        secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY".into(),
        session: Some("AQoDYXdzEE0a8ANXXXXXXXXNO1ewxE5TijQyp+IEXAMPLE==".into()),
    }
}

/// ECR as it checks who asks: the signature is made anew from what was received, for this key, region and service.
async fn ecr(key: AccessKey) -> Double {
    Double::start(move |asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/"));
        assert_eq!(asked.header("x-amz-target"), "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken");
        assert_eq!(asked.header("content-type"), "application/x-amz-json-1.1");
        assert_eq!(asked.body, "{}");
        let at = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", asked.header("x-amz-date")).unwrap();
        let at = at.to_datetime().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        assert!(Timestamp::now().duration_since(at).as_secs().abs() < 300, "AWS refuses other dates");
        let mut names = vec!["content-type", "host", "x-amz-date"];
        if let Some(session) = &key.session {
            assert_eq!(asked.header("x-amz-security-token"), secrecy::ExposeSecret::expose_secret(session));
            names.push("x-amz-security-token");
        }
        names.push("x-amz-target");
        let headers: Vec<_> = names.iter().map(|name| (*name, asked.header(name))).collect();
        let signed = Signed {
            method: "POST",
            path: "/",
            headers: &headers,
            body: &asked.body,
            region: "eu-west-1",
            service: "ecr",
            at,
        };
        if asked.header("authorization") != authorization(&key, &signed) {
            let said = json!({"__type": "InvalidSignatureException", "message": "The request signature..."});
            return (StatusCode::FORBIDDEN, said.to_string()).into_response();
        }
        let token = STANDARD.encode("AWS:p4ss:word");
        let expires = Timestamp::now().as_second() + 12 * 3600;
        json!({"authorizationData": [{"authorizationToken": token, "expiresAt": expires,
            "proxyEndpoint": format!("https://{ECR_HOST}")}]})
        .to_string()
        .into_response()
    })
    .await
}

async fn sts(expected_token: &'static str) -> Double {
    Double::start(move |asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/"));
        let expected = fields([
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", "arn:aws:iam::123456789012:role/zastava"),
            ("RoleSessionName", "zastava"),
            ("WebIdentityToken", expected_token),
        ]);
        if asked.form() == expected {
            return assumed().into_response();
        }
        let refusal =
            "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code></Error></ErrorResponse>";
        (StatusCode::BAD_REQUEST, refusal).into_response()
    })
    .await
}

#[tokio::test]
async fn ecr_gives_a_password_for_a_web_identity() {
    let (_folder, path) = token_file("pod.identity.token");
    for (accepted, expected) in [("pod.identity.token", Ok("AWS:p4ss:word")), ("another", Err("InvalidIdentityToken"))]
    {
        let (sts, ecr) = (sts(accepted).await, ecr(assumed_key()).await);
        let environment = environment([
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/zastava"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &path),
            ("AWS_ENDPOINT_URL_STS", &sts.url()),
            ("AWS_ENDPOINT_URL_ECR", &ecr.url()),
        ]);
        let exchanged = Ecr::new(ECR_HOST, &environment, &callers()).unwrap().exchange().await;
        match (exchanged, expected) {
            (Ok(exchanged), Ok(expected)) => {
                assert_eq!(shown(&exchanged.credential), expected);
                assert!((12 * 3600 - 60..=12 * 3600).contains(&exchanged.lifetime.as_secs()), "{exchanged:?}");
            }
            (Err(error), Err(code)) => {
                let said = error.unknown(ECR_HOST);
                assert!(said.message.contains(code) && said.message.contains(ECR_HOST), "{said:?}");
                assert!(!said.message.contains("pod.identity.token"), "{said:?}");
                assert!(said.cause.next_step().contains("workload identity"));
                assert!(ecr.asked().is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn ecr_gives_a_password_for_keys_of_the_environment_or_an_agent() {
    let key = AccessKey { id: "AKIDEXAMPLE".to_owned(), secret: "s3cr3t".into(), session: None };
    let ecr_double = ecr(key).await;
    let environment_keys = environment([
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "s3cr3t"),
        ("AWS_ENDPOINT_URL_ECR", &ecr_double.url()),
    ]);
    let exchanged = Ecr::new(ECR_HOST, &environment_keys, &callers()).unwrap().exchange().await.unwrap();
    assert_eq!(shown(&exchanged.credential), "AWS:p4ss:word");
    // Another key is another signature.
    let stranger = environment([
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "other"),
        ("AWS_ENDPOINT_URL_ECR", &ecr_double.url()),
    ]);
    let refused = Ecr::new(ECR_HOST, &stranger, &callers()).unwrap().exchange().await.unwrap_err();
    assert!(refused.to_string().contains("403 InvalidSignatureException"), "{refused}");

    let (_folder, path) = token_file("agent-token");
    let agent = Double::start(|asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/credentials"));
        assert_eq!(asked.header("authorization"), "agent-token");
        let key = assumed_key();
        let open = |secret: &secrecy::SecretString| secrecy::ExposeSecret::expose_secret(secret).to_owned();
        json!({"AccessKeyId": key.id, "SecretAccessKey": open(&key.secret), "Token": open(&key.session.unwrap()),
            "Expiration": "2030-01-01T00:00:00Z"})
        .to_string()
        .into_response()
    })
    .await;
    let ecr_double = ecr(assumed_key()).await;
    let of_agent = environment([
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}v1/credentials", agent.url())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &path),
        ("AWS_ENDPOINT_URL_ECR", &ecr_double.url()),
    ]);
    let exchanged = Ecr::new(ECR_HOST, &of_agent, &callers()).unwrap().exchange().await.unwrap();
    assert_eq!(shown(&exchanged.credential), "AWS:p4ss:word");
}

#[tokio::test]
async fn an_environment_without_an_identity_says_what_is_missing() {
    let ecr = Ecr::new(ECR_HOST, &environment([]), &callers()).unwrap().exchange().await.unwrap_err().to_string();
    assert!(ecr.contains("AWS_ROLE_ARN is not set") && ecr.contains("eks.amazonaws.com/role-arn"), "{ecr}");
    let acr = Acr::new("x.azurecr.io", &environment([]), &callers()).unwrap().exchange().await.unwrap_err().to_string();
    assert!(acr.contains("AZURE_CLIENT_ID is not set") && acr.contains("azure.workload.identity/use"), "{acr}");
    let lost = environment([("AWS_ROLE_ARN", "r"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")]);
    let lost = Ecr::new(ECR_HOST, &lost, &callers()).unwrap().exchange().await.unwrap_err().to_string();
    assert!(lost.contains("AWS_WEB_IDENTITY_TOKEN_FILE=/nowhere/token"), "{lost}");
    let plain = environment([("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.example/")]);
    let plain = Ecr::new(ECR_HOST, &plain, &callers()).err().unwrap().to_string();
    assert!(plain.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "{plain}");
}

#[test]
fn each_cloud_is_for_its_own_hosts() {
    use CloudCredentials::{Acr, Ecr, Gar};
    for (kind, host, fits) in [
        (Ecr, ECR_HOST, true),
        (Gar, "europe-docker.pkg.dev", true),
        (Gar, "gcr.io", true),
        (Gar, "eu.gcr.io", true),
        (Acr, "example.azurecr.io", true),
        (Ecr, "public.ecr.aws", false),
        (Ecr, "example.azurecr.io", false),
        (Gar, "notgcr.io", false),
        (Gar, "pkg.dev.evil.example", false),
        (Acr, "azurecr.io.evil.example", false),
        (Acr, "example.azurecr.io:5000", false),
    ] {
        let made = exchange(kind, host, &environment([]), &callers());
        assert_eq!(made.is_ok(), fits, "{kind:?} {host}");
        if let Err(error) = made {
            assert!(error.to_string().contains("are for hosts such as"), "{error}");
        }
    }
}

#[tokio::test]
async fn google_gives_a_token_to_who_asks_as_its_metadata_server_wants() {
    let metadata = Double::start(|asked| {
        assert_eq!(asked.path, "/computeMetadata/v1/instance/service-accounts/default/token");
        if asked.header("metadata-flavor") != "Google" || asked.method != "GET" {
            return StatusCode::FORBIDDEN.into_response();
        }
        let token = json!({"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"});
        ([("metadata-flavor", "Google")], token.to_string()).into_response()
    })
    .await;
    let environment_of = |host: &str| environment([("GCE_METADATA_HOST", host)]);
    let exchanged = Gar::new("gcr.io", &environment_of(&metadata.host), &callers()).unwrap().exchange().await.unwrap();
    assert_eq!(shown(&exchanged.credential), "oauth2accesstoken:ya29.token");
    assert_eq!(exchanged.lifetime.as_secs(), 3599);

    // Somebody else in its place, or one that leads away from it.
    let other = Double::start(|_| json!({"access_token": "x", "expires_in": 1}).to_string().into_response()).await;
    let error = Gar::new("gcr.io", &environment_of(&other.host), &callers()).unwrap().exchange().await.unwrap_err();
    assert!(error.to_string().contains("it is no metadata server"), "{error}");
    let target = metadata.url();
    let led = Double::start(move |_| (StatusCode::FOUND, [("location", target.clone())]).into_response()).await;
    let before = metadata.asked().len();
    let error = Gar::new("gcr.io", &environment_of(&led.host), &callers()).unwrap().exchange().await.unwrap_err();
    assert!(error.to_string().contains("302"), "{error}");
    assert_eq!(metadata.asked().len(), before);
}

#[tokio::test]
async fn azure_gives_a_refresh_token_for_a_federated_one() {
    let (_folder, path) = token_file("federated.jwt");
    let entra = Double::start(|asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/te-nant/oauth2/v2.0/token"));
        let expected = fields([
            ("grant_type", "client_credentials"),
            ("client_id", "cli-ent"),
            ("scope", "https://containerregistry.azure.net/.default"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", "federated.jwt"),
        ]);
        assert_eq!(asked.form(), expected);
        json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "entra-token"}).to_string().into_response()
    })
    .await;
    let ends = Timestamp::now().as_second() + 3 * 3600;
    let claims = URL_SAFE_NO_PAD.encode(json!({"exp": ends}).to_string());
    let refresh = format!("e30.{claims}.c2ln");
    let given = refresh.clone();
    let registry = Double::start(move |asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/oauth2/exchange"));
        let form = asked.form();
        assert_eq!(form["service"], asked.header("host"));
        if (form["grant_type"].as_str(), form["tenant"].as_str(), form["access_token"].as_str(), form.len())
            != ("access_token", "te-nant", "entra-token", 4)
        {
            let said = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
            return (StatusCode::UNAUTHORIZED, said.to_string()).into_response();
        }
        json!({"refresh_token": given}).to_string().into_response()
    })
    .await;
    let of_pod = |tenant: &str| {
        environment([
            ("AZURE_CLIENT_ID", "cli-ent"),
            ("AZURE_TENANT_ID", tenant),
            ("AZURE_FEDERATED_TOKEN_FILE", &path),
            ("AZURE_AUTHORITY_HOST", &entra.url()),
        ])
    };
    let acr = Acr::at(&registry.url(), &of_pod("te-nant"), &callers()).unwrap();
    let exchanged = acr.exchange().await.unwrap();
    assert_eq!(shown(&exchanged.credential), refresh);
    assert!((3 * 3600 - 60..=3 * 3600).contains(&exchanged.lifetime.as_secs()), "{exchanged:?}");
}
