//! An image found by its configuration, when that is all that a node tells.

use serde_json::json;
use zastava_crds::digest::Sha256Digest;
use zastava_verify::answer::{Answer, UnknownCause};

use super::bench::{Bench, soon};

/// The configuration that the double gives to an image of this name.
fn config(name: &str) -> Sha256Digest {
    Sha256Digest::of(json!({"architecture": "amd64", "os": "linux", "name": name}).to_string().as_bytes())
}

async fn has(bench: &Bench, image: &Sha256Digest, config: &Sha256Digest) -> Answer<()> {
    let image = bench.resolve(&format!("@{image}")).await.unwrap();
    bench.verifier.has_config(&image, config, &bench.platforms, &bench.keychain, soon()).await
}

#[tokio::test]
async fn an_image_has_its_own_configuration_and_no_other() {
    let bench = Bench::new().await;
    let image = bench.double.image("1", "one");
    assert_eq!(has(&bench, &image, &config("one")).await, Answer::Found(()));
    assert_eq!(has(&bench, &image, &config("two")).await, Answer::None);
}

#[tokio::test]
async fn an_index_has_those_of_the_children_that_may_run() {
    let bench = Bench::new().await.on(&["linux/amd64"]);
    let (amd64, arm64) = (bench.double.image("a", "a"), bench.double.image("b", "b"));
    let index = bench.double.index("1", &[("linux/amd64", &amd64), ("linux/arm64", &arm64)]);
    assert_eq!(has(&bench, &index, &config("a")).await, Answer::Found(()));
    assert_eq!(has(&bench, &index, &config("b")).await, Answer::None);
}

#[tokio::test]
async fn a_child_that_can_not_be_read_is_no_answer_unless_another_is_the_one() {
    let bench = Bench::new().await;
    let image = bench.double.image("a", "a");
    let lost = Sha256Digest::of(b"nobody pushed it");
    let index = bench.double.index("1", &[("linux/arm64", &lost), ("linux/amd64", &image)]);
    assert_eq!(has(&bench, &index, &config("a")).await, Answer::Found(()));
    let Answer::Unknown(unknown) = has(&bench, &index, &config("b")).await else { panic!("it may be the lost one") };
    assert_eq!(unknown.cause, UnknownCause::ImageNotFound);
}

#[tokio::test]
async fn attestations_in_an_index_are_no_children_that_run() {
    let bench = Bench::new().await;
    let (image, attestation) = (bench.double.image("a", "a"), bench.double.image("b", "b"));
    let children = std::iter::repeat_n(("unknown/unknown", &attestation), 40).chain([("linux/amd64", &image)]);
    let index = bench.double.index("1", &children.collect::<Vec<_>>());
    assert_eq!(has(&bench, &index, &config("a")).await, Answer::Found(()));
    assert_eq!(has(&bench, &index, &config("b")).await, Answer::None);
}
