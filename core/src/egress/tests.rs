use std::collections::HashMap;

use axum::{
    Router,
    extract::Query,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::{any, get},
};

use super::*;

/// A server that says whether it was shown credentials, and redirects to the address it is asked for.
async fn server() -> u16 {
    let redirect = |Query(query): Query<HashMap<String, String>>| async move {
        (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, query["to"].clone())])
    };
    let shown = |headers: HeaderMap| async move {
        if headers.contains_key(AUTHORIZATION) { "with credentials" } else { "without" }.into_response()
    };
    let router = Router::new().route("/redirect", any(redirect)).route("/shown", get(shown).post(shown));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

fn client(configured: &[&str]) -> Client {
    let guard = Guard::new(["10.96.0.0/12"], configured.iter().copied()).unwrap();
    guard.client(reqwest::Client::builder).unwrap()
}

async fn get_as_user(client: &Client, url: &str) -> Result<String, EgressError> {
    let mut request = Request::new(Method::GET, url.parse().unwrap());
    request.headers_mut().insert(AUTHORIZATION, "Basic eDp5".parse().unwrap());
    Ok(client.send(request).await?.text().await?)
}

fn to(port: u16, target: &str) -> String {
    Url::parse_with_params(&format!("http://127.0.0.1:{port}/redirect"), [("to", target)]).unwrap().into()
}

#[test]
fn addresses_inside_are_refused_in_every_form_they_are_written_in() {
    let guard = Guard::new(["10.96.0.0/12", "fd00:10::/64", "192.0.2.7"], []).unwrap();
    for inside in [
        "127.0.0.1",
        "127.255.0.9",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fe80::1",
        "febf::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "10.96.0.1",
        "10.111.255.255",
        "::ffff:10.96.0.1",
        "fd00:10::1",
        "192.0.2.7",
    ] {
        assert!(guard.refusal(inside.parse().unwrap()).is_some(), "{inside}");
    }
    for outside in
        ["10.95.255.255", "10.112.0.1", "192.0.2.8", "198.51.100.1", "::ffff:198.51.100.1", "2001:db8::1", "fd00:11::1"]
    {
        assert_eq!(guard.refusal(outside.parse().unwrap()), None, "{outside}");
    }
}

#[test]
fn settings_that_mean_nothing_are_told() {
    for bad in ["10.96.0.0/33", "service", ""] {
        assert_eq!(Guard::new([bad], []).unwrap_err(), GuardError::Network(bad.to_owned()));
    }
    for bad in
        ["", "registry.example:port", "registry.example/path", "user@registry.example", "https://registry.example"]
    {
        assert_eq!(Guard::new([], [bad]).unwrap_err(), GuardError::Host(bad.to_owned()));
    }
}

#[test]
fn a_host_is_configured_with_its_port_and_no_other() {
    let guard = Guard::new([], ["Registry.example", "other.example:5000", "[fd00::1]:5000", "10.0.0.1"]).unwrap();
    let is = |url: &str| guard.is_configured(&url.parse().unwrap());
    for url in [
        "https://registry.example/v2/",
        "http://registry.example/v2/",
        "https://other.example:5000/",
        "http://[fd00::1]:5000/",
        "https://10.0.0.1/",
    ] {
        assert!(is(url), "{url}");
    }
    for url in ["https://registry.example:6443/", "https://other.example/", "http://[fd00::1]/", "https://example/"] {
        assert!(!is(url), "{url}");
    }
    assert!(!guard.strict().is_configured(&"https://registry.example".parse().unwrap()));
}

#[tokio::test]
async fn a_name_is_refused_for_its_addresses_and_an_address_for_itself() {
    let port = server().await;
    let client = client(&[]);
    for host in ["localhost", "127.0.0.1", "127.1", "0x7f000001", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"] {
        let error = get_as_user(&client, &format!("http://{host}:{port}/shown")).await.unwrap_err();
        assert!(matches!(error, EgressError::Refused(_)), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_configured_host_is_reached_on_its_port_alone() {
    let (port, other) = (server().await, server().await);
    for host in ["localhost", "127.0.0.1"] {
        let client = client(&[&format!("{host}:{port}")]);
        let answer = get_as_user(&client, &format!("http://{host}:{port}/shown")).await.unwrap();
        assert_eq!(answer, "with credentials");
        let error = get_as_user(&client, &format!("http://{host}:{other}/shown")).await.unwrap_err();
        assert!(matches!(error, EgressError::Refused(_)), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_judged_as_its_own_address_and_carries_no_credentials_to_another_host() {
    let (port, other) = (server().await, server().await);
    let client = client(&[&format!("127.0.0.1:{port}"), &format!("localhost:{other}")]);
    for inside in [
        format!("http://127.0.0.1:{other}/shown"),
        "http://169.254.169.254/".to_owned(),
        format!("http://localhost:{port}/"),
    ] {
        let error = get_as_user(&client, &to(port, &inside)).await.unwrap_err();
        assert!(matches!(error, EgressError::Refused(_)), "{inside}: {error}");
    }
    let same = get_as_user(&client, &to(port, "/shown")).await.unwrap();
    assert_eq!(same, "with credentials");
    let elsewhere = get_as_user(&client, &to(port, &format!("http://localhost:{other}/shown"))).await.unwrap();
    assert_eq!(elsewhere, "without");
}

#[tokio::test]
async fn a_question_for_one_host_is_not_carried_to_another() {
    let (port, other) = (server().await, server().await);
    let client = client(&[&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{other}")]);
    let ask = |target: &str| client.send_to_one(Request::new(Method::GET, to(port, target).parse().unwrap()));
    assert_eq!(ask("/shown").await.unwrap().text().await.unwrap(), "without");
    let answered = ask(&format!("http://127.0.0.1:{other}/shown")).await.unwrap();
    assert_eq!(answered.status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn redirects_end() {
    let port = server().await;
    let client = client(&[&format!("127.0.0.1:{port}")]);
    let mut target = "/shown".to_owned();
    for _ in 0..MAX_REDIRECTS {
        target = to(port, &target);
    }
    assert_eq!(get_as_user(&client, &target).await.unwrap(), "with credentials");
    let error = get_as_user(&client, &to(port, &target)).await.unwrap_err();
    assert!(matches!(error, EgressError::Redirect { .. }), "{error}");
}

#[tokio::test]
async fn what_is_posted_is_posted_once() {
    let port = server().await;
    let client = client(&[&format!("127.0.0.1:{port}")]);
    let request = Request::new(Method::POST, to(port, "/shown").parse().unwrap());
    assert_eq!(client.send(request).await.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
}
