//! What is configured for a registry, and what a registry asks for.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    http::{StatusCode, header::RETRY_AFTER},
    response::IntoResponse,
};
use axum_server::tls_rustls::RustlsConfig;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prometheus_client::{encoding::text::encode, registry::Registry as Metrics};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use zastava_verify::{
    answer::UnknownCause,
    keychain::Keychain,
    registry::{Registry, RegistrySettings},
    verifier::{Verifier, VerifierSettings},
};

use super::{
    bench::{Bench, signed_by, soon},
    double::Double,
    signer::{BUNDLE, Signer},
};

fn entry(host: &str, mirror: Option<&str>) -> RegistrySettings {
    RegistrySettings {
        host: host.to_owned(),
        plain_http: mirror.is_none(),
        ca_pem: None,
        mirror: mirror.map(str::to_owned),
        credentials: None,
    }
}

/// A mirror is asked instead of the registry it stands for, below its path, with its own credentials, and never the other.
#[tokio::test]
async fn a_mirror_is_asked_instead_and_told_who_we_are_there() {
    let (mut bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let upstream = Double::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let expected = format!("Basic {}", STANDARD.encode("mirror:secret"));
    bench.double.hook_paths(move |path, headers| {
        noted.lock().unwrap().push(path.to_owned());
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
        (shown != Some(&expected))
            .then(|| (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"mirror\"")]).into_response())
    });
    let mirror = format!("{}/hub", bench.double.host);
    let settings = vec![entry(&upstream.host, Some(&mirror)), entry(&bench.double.host, None)];
    bench.verifier = Verifier::new(Registry::new(settings, &[]).unwrap(), VerifierSettings::default());
    let auths = json!({"auths": {
        upstream.host.clone(): {"username": "upstream", "password": "secret"},
        bench.double.host.clone(): {"username": "mirror", "password": "secret"},
    }});
    bench.keychain = Keychain::from_docker_config(auths.to_string().as_bytes()).unwrap();
    bench.double.host.clone_from(&upstream.host);
    bench.proven(&image, &signed_by(&signer)).await;
    assert_eq!(bench.resolve(":1").await.unwrap().digest(), &image);
    assert!(upstream.asked().is_empty());
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|path| path.starts_with("/v2/hub/team/app/")), "{seen:?}");
}

/// A registry over TLS, and the certificate (PEM) that vouches for it.
async fn under_tls() -> (Double, String) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = RustlsConfig::from_pem(leaf.pem().into_bytes(), key.serialize_pem().into_bytes()).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (double, router) = Double::at(listener.local_addr().unwrap().to_string());
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
    (double, authority_pem)
}

#[tokio::test]
async fn a_registrys_own_authority_vouches_for_that_registry_alone() {
    let signer = Signer::new();
    let (private, ca) = under_tls().await;
    let (other, _) = under_tls().await;
    let at = |host: &str, ca: &str| RegistrySettings {
        plain_http: false,
        ca_pem: Some(ca.to_owned()).filter(|pem| !pem.is_empty()),
        ..entry(host, None)
    };
    for (double, settings, trusted) in [
        (&private, at(&private.host, &ca), true),
        (&private, at(&private.host, ""), false),
        (&other, at(&other.host, &ca), false),
    ] {
        let mut bench = Bench::new().await;
        let image = double.image("1", "app");
        double.attach(&image, BUNDLE, &signer.bundle(&image));
        // An entry with the right authority for another host changes nothing.
        let settings = vec![settings, at("elsewhere.example", &ca)];
        bench.verifier = Verifier::new(Registry::new(settings, &[]).unwrap(), VerifierSettings::default());
        bench.double = double.clone();
        if trusted {
            bench.proven(&image, &signed_by(&signer)).await;
        } else {
            bench.unknown_for(&image, &signer, UnknownCause::Unreachable).await;
        }
    }
    let wrong = Registry::new(vec![at("registry.example", "no certificate")], &[]).err().map(|error| error.to_string());
    assert!(wrong.is_some_and(|error| error.contains("registry registry.example: caPem")));
}

#[tokio::test]
async fn a_registry_that_asks_for_a_pause_gets_it_and_says_so() {
    let in_a_minute = jiff::Timestamp::now() + Duration::from_mins(1);
    for (status, asked, least) in [
        (StatusCode::TOO_MANY_REQUESTS, "12".to_owned(), 12),
        (StatusCode::SERVICE_UNAVAILABLE, "12".to_owned(), 12),
        (StatusCode::TOO_MANY_REQUESTS, in_a_minute.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(), 30),
        (StatusCode::TOO_MANY_REQUESTS, "86400".to_owned(), 30),
        (StatusCode::TOO_MANY_REQUESTS, "soon".to_owned(), 2),
    ] {
        let (bench, signer) = (Bench::new().await, Signer::new());
        let image = bench.double.image("1", "app");
        bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
        let answer = asked.clone();
        bench.double.hook(move |_, _| Some((status, [(RETRY_AFTER, answer.clone())]).into_response()));
        let unknown = bench.unknown(&image, &signed_by(&signer)).await;
        assert_eq!(unknown.cause, UnknownCause::RateLimited, "{status} {asked}: {unknown:?}");
        assert_eq!(unknown.retry_after.map(|pause| pause.as_secs()), Some(least), "{status} {asked}");
        // Until then it is left alone, whatever else it is asked for.
        bench.double.asked();
        assert_eq!(bench.resolve(":1").await.unwrap_err().cause, UnknownCause::RateLimited);
        assert!(bench.double.asked().is_empty(), "{status} {asked}");
    }
}

#[tokio::test]
async fn every_request_is_counted_by_what_was_asked_and_what_came_of_it() {
    let (mut bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    let registry = Registry::new(vec![entry(&bench.double.host, None)], &[]).unwrap();
    let mut metrics = Metrics::default();
    registry.register(&mut metrics);
    bench.verifier = Verifier::new(registry, VerifierSettings::default());
    bench.proven(&image, &signed_by(&signer)).await;
    bench.verifier.resolve(&bench.image(":nowhere"), &Keychain::default(), soon()).await.unwrap_err();
    let mut text = String::new();
    encode(&mut text, &metrics).unwrap();
    for (what, result, count) in [
        ("manifest", "answered", 2),
        ("blob", "answered", 1),
        ("referrers", "answered", 1),
        ("manifest", "not_found", 1),
    ] {
        let line = format!("zastava_registry_requests_total{{what=\"{what}\",result=\"{result}\"}} {count}");
        assert!(text.contains(&line), "{line}\n{text}");
    }
}
