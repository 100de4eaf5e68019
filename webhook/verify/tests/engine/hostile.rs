//! Registries that lie, flip, grow and lead astray: each bypass that was found elsewhere, by its number.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::stream;
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{
    answer::UnknownCause,
    keychain::Keychain,
    verdict::{RefusalReason, Verdict},
};

use super::{
    bench::{Bench, signed_by, soon, verifier},
    double::{Double, manifest},
    signer::{BUNDLE, Signer},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

type Answers = Box<dyn Fn() -> Response + Send + Sync>;

async fn signed() -> (Bench, Signer, Sha256Digest) {
    let (bench, signer) = (Bench::new().await, Signer::new());
    let image = bench.double.image("1", "app");
    bench.double.attach(&image, BUNDLE, &signer.bundle(&image));
    (bench, signer, image)
}

fn unsigned() -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": [], "evil": true})
        .to_string()
        .into_bytes()
}

/// Bytes under a digest of the sender's choice.
fn claiming(digest: &Sha256Digest, bytes: Vec<u8>) -> Response {
    ([("content-type", MANIFEST), ("docker-content-digest", digest.as_str())], bytes).into_response()
}

fn headers(headers: &HeaderMap) -> String {
    headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn list(descriptors: usize) -> String {
    let one = |n: usize| {
        let digest = Sha256Digest::of(&n.to_be_bytes());
        json!({"mediaType": MANIFEST, "digest": digest, "size": 1, "artifactType": BUNDLE})
    };
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": (0..descriptors).map(one).collect::<Vec<_>>()})
        .to_string()
}

/// The tag is signed at one look and not at the next: whichever look counts, it is the only one.
#[tokio::test]
async fn cve_2022_47633_what_was_verified_is_what_is_pinned() {
    for signed_first in [true, false] {
        let (bench, signer, image) = signed().await;
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = looks.clone();
        bench.double.hook(move |asked, _| {
            let is_even = asked == "manifests/1" && counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            (asked == "manifests/1" && is_even != signed_first).then(|| manifest(MANIFEST, unsigned()))
        });
        let resolved = bench.resolve(":1").await.unwrap();
        let verdict =
            bench.verifier.verify(&resolved, &signed_by(&signer), &bench.platforms, &bench.keychain, soon()).await;
        assert_eq!(looks.load(Ordering::SeqCst), 1);
        assert_eq!(resolved.digest() == &image, signed_first);
        assert!(resolved.pinned().ends_with(resolved.digest().as_str()));
        match verdict {
            Verdict::Proven(proof) => assert!(signed_first && &proof.digest().digest == resolved.digest()),
            Verdict::Refused(_) | Verdict::Unknown(_) => assert!(!signed_first, "{verdict:?}"),
        }
    }
}

/// Whatever a header claims, bytes are what they hash to.
#[tokio::test]
async fn cve_2023_47630_a_header_decides_no_digest() {
    let (bench, signer, image) = signed().await;
    let claimed = image.clone();
    bench.double.hook(move |asked, _| (asked == "manifests/1").then(|| claiming(&claimed, unsigned())));
    assert_eq!(bench.resolve(":1").await.unwrap_err().cause, UnknownCause::Integrity);
    // Asked by digest, for the image, for what is attached to it and for the signature itself.
    for kind in ["manifests/", "blobs/"] {
        let (bench, signer, image) = signed().await;
        let own = format!("manifests/{image}");
        bench.double.hook(move |asked, _| {
            let (_, digest) = asked.split_once('/').unwrap();
            (asked.starts_with(kind) && asked != own && digest.starts_with("sha256:"))
                .then(|| claiming(&digest.parse().unwrap(), unsigned()))
        });
        bench.unknown_for(&image, &signer, UnknownCause::Integrity).await;
    }
    let asked_for = format!("manifests/{image}");
    let claimed = image.clone();
    bench.double.hook(move |asked, _| (asked == asked_for).then(|| claiming(&claimed, unsigned())));
    bench.unknown_for(&image, &signer, UnknownCause::Integrity).await;
}

#[tokio::test]
async fn cve_2026_122321_a_tag_that_moved_is_judged_by_what_it_is_now() {
    let (bench, signer, image) = signed().await;
    let first = bench.resolve(":1").await.unwrap();
    assert_eq!(first.digest(), &image);
    bench.proven(&image, &signed_by(&signer)).await;
    bench.double.hook(|asked, _| (asked == "manifests/1").then(|| manifest(MANIFEST, unsigned())));
    let moved = bench.resolve(":1").await.unwrap();
    assert_ne!(moved.digest(), first.digest());
    assert!(moved.pinned().ends_with(moved.digest().as_str()));
    bench.double.hook(|asked, _| {
        (asked == format!("manifests/{}", Sha256Digest::of(&unsigned()))).then(|| manifest(MANIFEST, unsigned()))
    });
    bench.refused_for(moved.digest(), &signer, RefusalReason::NoSignature, "no signature").await;
}

/// Lists without end, in every way in which one can have none.
#[tokio::test]
async fn cve_2023_42813_lists_without_end_are_unknown_after_a_bounded_number_of_requests() {
    let next = |page: &str| ("link", format!("<{page}>; rel=\"next\""));
    let endless = || {
        let chunk = Bytes::from(vec![b' '; 64 * 1024]);
        Body::from_stream(stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()))).into_response()
    };
    let pages: [(&str, Answers); 4] = [
        ("a page that is followed by itself", Box::new(move || ([next("?again")], list(1)).into_response())),
        ("pages that are full", Box::new(move || ([next("?again")], list(400)).into_response())),
        ("one page with too much", Box::new(|| list(30_000).into_response())),
        ("a page that does not end", Box::new(endless)),
    ];
    for (name, page) in pages {
        let (bench, signer, image) = signed().await;
        bench.double.hook(move |asked, _| asked.starts_with("referrers/").then(&page));
        let unknown = bench.unknown(&image, &signed_by(&signer)).await;
        assert!(matches!(unknown.cause, UnknownCause::TooLarge | UnknownCause::RegistryError), "{name}: {unknown:?}");
        let asked = bench.double.asked();
        assert!(asked.len() < 80, "{name}: {}", asked.len());
        assert!(asked.iter().filter(|asked| asked.starts_with("referrers/")).count() <= 10, "{name}");
    }
}

/// What a registry counts or measures reserves no memory and starts no request.
#[tokio::test]
async fn cve_2024_29902_counts_and_sizes_of_the_registrys_choice_allocate_nothing() {
    let layer = |size: u64| {
        let digest = Sha256Digest::of(&size.to_be_bytes());
        json!({"mediaType": BUNDLE, "digest": digest, "size": size})
    };
    let artifact = |layers: Vec<Value>, image: &Sha256Digest| {
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": MANIFEST, "digest": image, "size": 2},
            "layers": layers, "subject": {"mediaType": MANIFEST, "digest": image, "size": 1}})
    };
    for (name, layers) in [
        ("a signature of 8 EiB", vec![layer(i64::MAX as u64)]),
        ("signatures of 1 TiB", vec![layer(1 << 40); 3]),
        ("ten thousand signatures", (1..10_000).map(layer).collect()),
    ] {
        let (bench, signer) = (Bench::new().await, Signer::new());
        let image = bench.double.image("1", "app");
        bench.double.manifest(None, &artifact(layers, &image));
        bench.unknown_for(&image, &signer, UnknownCause::TooLarge).await;
        let blobs = bench.double.asked().into_iter().filter(|asked| asked.starts_with("blobs/")).count();
        assert_eq!(blobs, 0, "{name}");
    }
    // An index with more children than anyone has, and a body that announces more than it sends.
    let (bench, signer) = (Bench::new().await, Signer::new());
    let index: Value = serde_json::from_str(&list(10_000)).unwrap();
    let image = bench.double.manifest(None, &index);
    bench.unknown_for(&image, &signer, UnknownCause::TooLarge).await;
    let (bench, signer, image) = signed().await;
    bench.double.hook(|asked, _| {
        let announced = Response::builder().header("content-length", "9223372036854775807");
        asked.starts_with("blobs/").then(|| announced.body(Body::from("{}")).unwrap())
    });
    let unknown = bench.unknown(&image, &signed_by(&signer)).await;
    assert!(matches!(unknown.cause, UnknownCause::TooLarge | UnknownCause::Unreachable), "{unknown:?}");
}

/// Pages, tokens and content that lead to another host: nobody there learns who we are.
#[tokio::test]
async fn credentials_go_nowhere_a_registry_or_its_token_service_leads() {
    let identity = json!({"identitytoken": "refresh"});
    let password = json!({"username": "robot", "password": "secret"});
    for (leads, credential) in
        [("page", &password), ("token", &password), ("token", &identity), ("manifest", &password)]
    {
        let (mut bench, signer, image) = signed().await;
        let elsewhere = Double::start().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        elsewhere.hook_paths(move |path, all| {
            noted.lock().unwrap().push((path.to_owned(), headers(all)));
            Some(json!({"token": "stolen"}).to_string().into_response())
        });
        let (here, there) = (bench.double.host.clone(), format!("http://{}/token", elsewhere.host));
        let basic = format!("Basic {}", STANDARD.encode("robot:secret"));
        bench.double.hook(move |asked, all| {
            let led = || (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, there.clone())]).into_response();
            let challenge = |text: String| (StatusCode::UNAUTHORIZED, [("www-authenticate", text)]).into_response();
            match leads {
                "token" if asked == "/token" => Some(led()),
                "token" => Some(challenge(format!("Bearer realm=\"http://{here}/token\",service=\"registry\""))),
                _ if headers(all) != basic => Some(challenge("Basic realm=\"registry\"".to_owned())),
                "page" => asked
                    .starts_with("referrers/")
                    .then(|| ([("link", format!("<{there}>; rel=\"next\""))], list(0)).into_response()),
                _ => asked.starts_with("manifests/").then(led),
            }
        });
        bench.verifier = verifier(&[&bench.double.host, &elsewhere.host]);
        let auths = json!({"auths": {bench.double.host.clone(): credential}}).to_string();
        bench.keychain = Keychain::from_docker_config(auths.as_bytes()).unwrap();
        bench.unknown(&image, &signed_by(&signer)).await;
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|(_, shown)| shown.is_empty()), "{leads}: {seen:?}");
        // A refresh token is posted, and what is posted is not carried on; nor is the question for the next page.
        let must_not_arrive = leads == "page" || credential == &identity;
        assert_eq!(seen.is_empty(), must_not_arrive, "{leads}: {seen:?}");
    }
}

/// Token services that answer too much, or what can be no header.
#[tokio::test]
async fn tokens_that_are_none_are_unknown_and_are_not_asked_for_without_end() {
    let answers: [(&str, String); 6] = [
        ("too long", json!({"token": "t".repeat(1 << 20)}).to_string()),
        ("with another header in it", json!({"token": "t\r\nx-evil: 1"}).to_string()),
        ("empty", json!({"token": ""}).to_string()),
        ("no token", json!({"expires_in": 300}).to_string()),
        ("refused by the registry, for ever", json!({"token": "t", "expires_in": u64::MAX}).to_string()),
        ("that has ended already", json!({"token": "t", "expires_in": 0}).to_string()),
    ];
    for (name, answer) in answers {
        let (bench, signer, image) = signed().await;
        let (host, tokens) = (bench.double.host.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = tokens.clone();
        bench.double.hook(move |asked, _| {
            if asked == "/token" {
                counted.fetch_add(1, Ordering::SeqCst);
                return Some(answer.clone().into_response());
            }
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"registry\"");
            Some((StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response())
        });
        let unknown = bench.unknown(&image, &signed_by(&signer)).await;
        assert!(!unknown.message.contains("x-evil"), "{name}: {unknown:?}");
        assert!(tokens.load(Ordering::SeqCst) <= 4, "{name}: {} tokens", tokens.load(Ordering::SeqCst));
        assert!(bench.double.asked().len() <= 8, "{name}");
    }
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let (bench, signer, image) = signed().await;
    let hops = Arc::new(AtomicUsize::new(0));
    let counted = hops.clone();
    bench.double.hook(move |asked, _| {
        asked.starts_with("blobs/").then(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, format!("/v2/team/app/{asked}"))]).into_response()
        })
    });
    bench.unknown_for(&image, &signer, UnknownCause::RegistryError).await;
    assert!(hops.load(Ordering::SeqCst) <= 6);
}
