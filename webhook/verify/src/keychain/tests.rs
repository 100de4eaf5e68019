//! Keys as the kubelet reads them, and what is refused.

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::*;

fn keychain(keys: &[&str]) -> Keychain {
    let auths: BTreeMap<_, _> =
        keys.iter().map(|key| (key, serde_json::json!({"username": key, "password": "p"}))).collect();
    Keychain::from_docker_config(serde_json::json!({"auths": auths}).to_string().as_bytes()).unwrap()
}

fn users(keychain: &Keychain, host: &str, repository: &str) -> Vec<String> {
    let name = |credential: Credential| match credential {
        Credential::Basic { username, .. } => username,
        Credential::IdentityToken(_) => "token".to_owned(),
    };
    keychain.lookup(host, repository).into_iter().map(name).collect()
}

/// The examples of the Kubernetes documentation on config.json, and what its source says besides.
#[test]
fn keys_match_as_the_kubelets_do() {
    for (key, host, repository, matches) in [
        ("*.kubernetes.io", "abc.kubernetes.io", "app", true),
        ("*.kubernetes.io", "kubernetes.io", "app", false),
        ("*.*.kubernetes.io", "abc.kubernetes.io", "app", false),
        ("*.*.kubernetes.io", "abc.def.kubernetes.io", "app", true),
        ("prefix.*.io", "prefix.kubernetes.io", "app", true),
        ("*-good.kubernetes.io", "prefix-good.kubernetes.io", "app", true),
        ("my-registry.example/images", "my-registry.example", "images", true),
        ("my-registry.example/images", "my-registry.example", "images/my-app", true),
        ("my-registry.example/images", "my-registry.example", "images2", true),
        ("my-registry.example/images/", "my-registry.example", "images", false),
        ("my-registry.example/images/", "my-registry.example", "images/my-app", true),
        ("http://my-registry.example/", "my-registry.example", "app", true),
        ("my-registry.example/v2/", "my-registry.example", "app", true),
        ("my-registry.example/v2/team", "my-registry.example", "team/app", true),
        ("my-registry.example/v2", "my-registry.example", "app", false),
        ("my-registry.example/*", "my-registry.example", "app", false),
        ("r?gistry.example", "registry.example", "app", true),
        ("{registry,other}.example", "registry.example", "app", false),
        ("*", "registry.example", "app", false),
        ("*", "registry", "app", true),
        ("registry.example:*", "registry.example:5000", "app", false),
        ("[::1]:5000", "[::1]:5000", "app", true),
        ("docker.io", "docker.io", "library/busybox", true),
        ("index.docker.io", "docker.io", "library/busybox", true),
        ("*.my-registry.example/images", "sub.my-registry.example", "images/my-app", true),
        ("*.my-registry.example/images", "sub.sub.my-registry.example", "images/my-app", false),
        ("registry.example:5000", "registry.example:5000", "app", true),
        ("registry.example:5000", "registry.example", "app", false),
        ("registry.example", "registry.example:5000", "app", false),
        ("https://index.docker.io/v1/", "docker.io", "library/busybox", true),
        ("[a-", "a", "app", false),
    ] {
        assert_eq!(!users(&keychain(&[key]), host, repository).is_empty(), matches, "{key} for {host}/{repository}");
    }
}

#[test]
fn all_matches_are_tried_once_and_in_the_kubelets_order() {
    let keychain = keychain(&["registry.example", "registry.example/team", "registry.example/team/app"])
        .merged(&keychain(&["*.example", "registry.example/team"]));
    assert_eq!(
        users(&keychain, "registry.example", "team/app"),
        ["registry.example/team/app", "registry.example/team", "registry.example", "*.example"]
    );
}

#[test]
fn a_secret_with_hundreds_of_passwords_is_not_tried_to_the_end() {
    let auths: BTreeMap<_, _> = (0..500)
        .map(|n| (format!("https://{}registry.example", "*".repeat(n % 7)), n))
        .map(|(key, n)| (format!("{key}/{}", "a".repeat(n)), serde_json::json!({"username": n.to_string()})))
        .collect();
    let config = serde_json::json!({"auths": auths}).to_string();
    let keychain = Keychain::from_docker_config(config.as_bytes()).unwrap();
    assert_eq!(keychain.lookup("registry.example", &"a".repeat(500)).len(), MAX_TRIED);
}

#[test]
fn no_key_is_compiled_into_more_than_a_host_can_have() {
    let labels = |n: usize| vec!["a"; n].join(".");
    assert!(keychain(&[&labels(100_000), "*.example"]).lookup("b.example", "app").len() == 1);
    assert!(keychain(&[&labels(100_000)]).is_empty());
    assert!(keychain(&[&labels(128)]).is_empty() && !keychain(&[&labels(127)]).is_empty(), "253 characters");
}

#[test]
fn globs_are_compiled_once_and_more_than_anybody_needs_are_too_many() {
    let config = |globs: usize, end: &str| {
        let auths: BTreeMap<_, _> =
            (0..1000).map(|n| (format!("*-{}.*.{end}/{n}", n % globs), serde_json::json!({"username": "u"}))).collect();
        Keychain::from_docker_config(serde_json::json!({"auths": auths}).to_string().as_bytes())
    };
    let most = config(MAX_GLOBS - 1, "example").unwrap();
    assert_eq!(most.lookup("a-0.b.example", "0").len(), 1);
    assert!((MAX_GLOBS * GLOB_WEIGHT..(MAX_GLOBS + 64) * GLOB_WEIGHT).contains(&most.weight()), "{}", most.weight());
    for end in ["example", "[a-"] {
        assert!(matches!(config(MAX_GLOBS, end), Err(KeychainError::TooLarge)), "one of them is `*`: {end}");
    }
}

#[test]
fn what_is_not_read_is_named() {
    let said = |config: &str| Keychain::from_docker_config(config.as_bytes()).unwrap().ignored();
    assert_eq!(said(r#"{"auths": {}}"#), None);
    let store = said(r#"{"credsStore": "desktop"}"#).unwrap();
    assert!(store.starts_with("credsStore ignored") && store.contains("write the credentials into auths"));
    let helpers =
        said(r#"{"auths": {"a.example": {}}, "credHelpers": {"b.example": "gcr", "c.example": "ecr-login"}}"#);
    assert!(helpers.unwrap().contains("credHelpers (for b.example, c.example)"));
}

#[test]
fn credentials_are_read_as_the_kubelet_reads_them() {
    let read = |entry: serde_json::Value| {
        let config = serde_json::json!({"auths": {"a.example": entry}}).to_string();
        let found = Keychain::from_docker_config(config.as_bytes()).unwrap().lookup("a.example", "x");
        found.into_iter().next().map(|found| match found {
            Credential::Basic { username, password } => format!("{username}:{}", password.expose_secret()),
            Credential::IdentityToken(token) => token.expose_secret().to_owned(),
        })
    };
    let auth = STANDARD.encode("robot:pass");
    // `auth` comes before what is beside it.
    assert_eq!(read(serde_json::json!({"auth": auth, "username": "u", "password": "p"})).unwrap(), "robot:pass");
    assert_eq!(read(serde_json::json!({"auth": "", "username": "u", "password": "p"})).unwrap(), "u:p");
    assert_eq!(read(serde_json::json!({"auth": STANDARD_NO_PAD.encode("robot:pass")})).unwrap(), "robot:pass");
    let broken = format!("{}\n{}", &auth[..4], &auth[4..]);
    assert_eq!(read(serde_json::json!({"auth": broken})).unwrap(), "robot:pass");
    assert_eq!(read(serde_json::json!({"username": "u"})).unwrap(), "u:");
    for nothing in [serde_json::json!({}), serde_json::json!({"auth": "%%%"}), serde_json::json!({"password": "p"})] {
        assert_eq!(read(nothing.clone()), None, "{nothing}");
    }
}

#[test]
fn both_layouts_and_all_forms_of_credentials_are_read() {
    let auth = STANDARD.encode("robot$x:pa:ss");
    let modern = serde_json::json!({"auths": {"a.example": {"auth": auth}, "b.example": {"identitytoken": "t"}, "c.example": {}}, "credsStore": "desktop"});
    let modern = Keychain::from_docker_config(modern.to_string().as_bytes()).unwrap();
    let [Credential::Basic { username, password }] = &modern.lookup("a.example", "x")[..] else { panic!("no user") };
    assert_eq!((username.as_str(), password.expose_secret()), ("robot$x", "pa:ss"));
    assert!(matches!(&modern.lookup("b.example", "x")[..], [Credential::IdentityToken(_)]));
    assert!(modern.lookup("c.example", "x").is_empty());
    let old = serde_json::json!({"a.example": {"auth": auth}});
    assert_eq!(Keychain::from_docker_config(old.to_string().as_bytes()).unwrap().lookup("a.example", "x").len(), 1);
}

#[test]
fn errors_and_debug_texts_tell_no_secret() {
    let error = Keychain::from_docker_config(br#"{"auths": {"a": {"password": hunter2}}}"#).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!format!("{:?}", keychain(&["a.example"])).contains("\"p\""));
}
