use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{http::StatusCode, response::IntoResponse};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use zastava_crds::digest::Sha256Digest;

use super::*;
use crate::{
    answer::Answer as Answered,
    keychain::Keychain,
    registry::{Registry, RegistrySettings, Repository},
};

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;

/// Gives the same each time, and counts.
struct Given(Credential, Arc<AtomicUsize>);

impl Exchange for Given {
    fn exchange(&self) -> BoxFuture<'_, Result<Exchanged, ExchangeError>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(Exchanged { credential: self.0.clone(), lifetime: Duration::from_hours(1) }) })
    }
}

fn repository(host: &str, credential: Credential, keychain: &Keychain) -> (Repository, Arc<AtomicUsize>) {
    let settings =
        RegistrySettings { host: host.to_owned(), plain_http: true, ca_pem: None, mirror: None, credentials: None };
    let exchanges = Arc::new(AtomicUsize::new(0));
    let given = Arc::new(Given(credential, exchanges.clone()));
    let registry = Registry::new(vec![settings], &[]).unwrap().with_exchange(host, given);
    (registry.repository(&format!("{host}/team/app").parse().unwrap(), keychain), exchanges)
}

fn password() -> Credential {
    Credential::Basic { username: "AWS".to_owned(), password: "p4ss".into() }
}

#[tokio::test]
async fn a_password_is_exchanged_once_and_only_when_it_is_asked_for() {
    let expected = format!("Basic {}", STANDARD.encode("AWS:p4ss"));
    let open = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_open = open.clone();
    let double = Double::start(move |asked| {
        if is_open.load(Ordering::SeqCst) || asked.header("authorization") == expected {
            return MANIFEST.into_response();
        }
        (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"ecr\"")]).into_response()
    })
    .await;
    // The pod's own are tried first.
    let own = json!({"auths": {double.host.clone(): {"username": "pod", "password": "wrong"}}}).to_string();
    let keychain = Keychain::from_docker_config(own.as_bytes()).unwrap();
    let (repository, exchanges) = repository(&double.host, password(), &keychain);
    assert!(matches!(repository.manifest_by_tag("1").await, Answered::Found(_)));
    assert_eq!(exchanges.load(Ordering::SeqCst), 0, "a public image needs no credentials");
    open.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        let Answered::Found(content) = repository.manifest_by_tag("1").await else { panic!("nothing") };
        assert_eq!(content.digest, Sha256Digest::of(MANIFEST.as_bytes()));
    }
    assert_eq!(exchanges.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refresh_token_goes_to_the_registrys_own_token_service_and_to_no_other() {
    let token_service = |asked: &Asked| {
        assert_eq!(asked.method, "POST");
        let form = asked.form();
        assert_eq!(form["refresh_token"], "refresh");
        assert_eq!(
            (form["grant_type"].as_str(), form["scope"].as_str()),
            ("refresh_token", "repository:team/app:pull")
        );
        json!({"access_token": "t0k3n"}).to_string().into_response()
    };
    let elsewhere = Double::start(token_service).await;
    for own in [true, false] {
        let other = elsewhere.host.clone();
        let double = Double::start(move |asked| {
            if asked.path == "/oauth2/token" {
                return token_service(asked);
            }
            if asked.header("authorization") == "Bearer t0k3n" {
                return MANIFEST.into_response();
            }
            let host = if own { asked.header("host").to_owned() } else { other.clone() };
            let challenge = format!("Bearer realm=\"http://{host}/oauth2/token\",service=\"registry\"");
            (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
        })
        .await;
        let refresh = Credential::IdentityToken("refresh".into());
        let (repository, exchanges) = repository(&double.host, refresh, &Keychain::default());
        match repository.manifest_by_tag("1").await {
            Answered::Found(_) => assert!(own),
            Answered::Unknown(unknown) => {
                assert!(!own && unknown.message.contains("token realm is on another host"), "{unknown:?}");
                assert_eq!(exchanges.load(Ordering::SeqCst), 0);
            }
            Answered::None => panic!("nothing"),
        }
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn what_was_had_with_exchanged_credentials_is_not_shown_to_who_has_none() {
    let (with, _) = repository("127.0.0.1:1", password(), &Keychain::default());
    let settings = RegistrySettings {
        host: "127.0.0.1:1".to_owned(),
        plain_http: true,
        ca_pem: None,
        mirror: None,
        credentials: None,
    };
    let registry = Registry::new(vec![settings], &[]).unwrap();
    let without = registry.repository(&"127.0.0.1:1/team/app".parse().unwrap(), &Keychain::default());
    assert_ne!(with.identity(), without.identity());
}

#[tokio::test]
async fn each_repository_is_asked_with_the_credentials_that_it_accepts() {
    let swapped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_swapped = swapped.clone();
    let double = Double::start(move |asked| {
        let first = asked.path.contains("/one/") != is_swapped.load(Ordering::SeqCst);
        let user = if first { "first" } else { "second" };
        if asked.header("authorization") == format!("Basic {}", STANDARD.encode(format!("{user}:p4ss"))) {
            return MANIFEST.into_response();
        }
        (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"r\"")]).into_response()
    })
    .await;
    let secret = |user: &str| {
        let config = json!({"auths": {double.host.clone(): {"username": user, "password": "p4ss"}}}).to_string();
        Keychain::from_docker_config(config.as_bytes()).unwrap()
    };
    let settings =
        RegistrySettings { host: double.host.clone(), plain_http: true, ca_pem: None, mirror: None, credentials: None };
    let registry = Registry::new(vec![settings], &[]).unwrap();
    let keychain = secret("first").merged(&secret("second"));
    let repository =
        |name: &str| registry.repository(&format!("{}/{name}/app", double.host).parse().unwrap(), &keychain);
    for name in ["two", "one", "two"] {
        let answer = repository(name).manifest_by_tag("1").await;
        assert!(matches!(answer, Answered::Found(_)), "{name}: {answer:?}");
    }
    // A repository starts with those of its own that it accepted last: no request of the last round was refused.
    let asked = |name: &str| double.asked().iter().filter(|asked| asked.contains(name)).count();
    assert_eq!((asked("/two/"), asked("/one/")), (4, 2));
    // None is passed over for good.
    swapped.store(true, Ordering::SeqCst);
    for name in ["two", "one"] {
        let answer = repository(name).manifest_by_tag("1").await;
        assert!(matches!(answer, Answered::Found(_)), "{name}: {answer:?}");
    }
}
