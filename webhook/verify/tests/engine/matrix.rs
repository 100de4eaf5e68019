//! Everywhere a signature may be, by every way a registry may have it: one table, whose results are a page of the docs.
//!
//! A row is tried signed, signed by a stranger, not signed, and signed with each of its requests failing once.

mod page;
mod rows;

use std::collections::BTreeSet;

use axum::{
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use futures::future::join_all;
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;
use zastava_verify::{image::Platforms, keychain::Keychain, sbom::SbomVerdict, verdict::Verdict};

use super::{
    bench::{Bench, signed_by, verifier},
    double::{Double, Referrers},
    signer::{BUNDLE, CYCLONEDX, Signer, cyclonedx},
};

/// A row of the table.
struct Row {
    /// What the registry does, as the page says it.
    registry: &'static str,
    /// Where the signature is.
    place: &'static str,
    api: Api,
    put: Put,
    image: Image,
    asks: Asks,
}

/// How the referrers API answers.
#[derive(Clone, Copy)]
enum Api {
    Mode(Referrers),
    /// With a status and nothing else.
    Status(u16),
    /// With a redirect to another host, which would have an answer.
    Elsewhere,
    /// With a page for people.
    Page,
}

/// How a signature is put there.
#[derive(Clone, Copy)]
enum Put {
    /// By reference, as this media type.
    Attached(&'static str),
    /// The same, after two of strangers and one that is none.
    AttachedAmongOthers,
    /// Under the fallback tag, with descriptors of this artifact type.
    FallbackTag(&'static str),
    LegacyTag,
    /// The same, while bundles of strangers are attached by reference.
    LegacyTagBesideBundles,
}

/// What is signed.
#[derive(Clone, Copy)]
enum Image {
    Single,
    /// Of Docker's own media types.
    Docker,
    /// An index over images for these platforms, signed itself; the cluster's nodes are of the last.
    Index(&'static [&'static str]),
    /// The same, of which each child is signed.
    Children(&'static [&'static str]),
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Asks {
    Signature,
    /// A signed bill of materials, as all there is.
    Sbom,
}

/// What came of one row.
#[derive(PartialEq, Eq)]
struct Results {
    signed: String,
    stranger: String,
    unsigned: String,
    failing: BTreeSet<String>,
}

const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
const BUNDLE_0_1: &str = "application/vnd.dev.sigstore.bundle+json;version=0.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_signature_is_found_wherever_it_is_and_missed_nowhere_else() {
    let rows = rows::all().into_iter().map(|row| {
        tokio::spawn(async move {
            let results = row.results().await;
            (row, results)
        })
    });
    let mut done = Vec::new();
    for row in join_all(rows).await {
        let (row, results) = row.unwrap();
        let (none, no_match) = match row.asks {
            Asks::Signature => ("refused: no_signature", "refused: no_matching_signature"),
            Asks::Sbom => ("refused: no_sbom", "refused: no_matching_sbom"),
        };
        let name = format!("{}; {}", row.registry, row.place);
        assert_eq!(results.signed, "proven", "{name}");
        // Of an index the reason is that of the child where both fail.
        let is_index = matches!(row.image, Image::Index(_));
        assert!(results.stranger == no_match || is_index && results.stranger == none, "{name}: {}", results.stranger);
        assert_eq!(results.unsigned, none, "{name}");
        // Without one of its requests an image may still be proven; what is not known never reads as unsigned.
        assert!(results.failing.contains("unknown"), "{name}: {:?}", results.failing);
        assert!(results.failing.iter().all(|result| matches!(result.as_str(), "unknown" | "proven")), "{name}");
        done.push((row, results));
    }
    page::is_current(&done);
}

impl Row {
    async fn results(&self) -> Results {
        let (team, stranger) = (Signer::new(), Signer::new());
        let mut site = self.site().await;
        let (signed, strange, bare) = (site.push(self, "app"), site.push(self, "strange"), site.push(self, "bare"));
        site.sign(self, &signed, &team);
        site.sign(self, &strange, &stranger);
        let result = site.verify(self, &signed, &team).await;
        let requests: BTreeSet<_> = site.bench.double.asked().into_iter().collect();
        let by_stranger = site.verify(self, &strange, &team).await;
        let unsigned = site.verify(self, &bare, &team).await;
        let mut failing = BTreeSet::new();
        for request in requests {
            site.answer(self.api, Some(request));
            let result = site.verify(self, &signed, &team).await;
            // Which cause is another test's.
            failing.insert(result.split_once(':').map_or(result.as_str(), |(verdict, _)| verdict).to_owned());
        }
        assert!(site.elsewhere.asked().is_empty(), "no other host is asked for anything");
        Results { signed: result, stranger: by_stranger, unsigned, failing }
    }

    /// A registry of this row's kind.
    async fn site(&self) -> Site {
        let (double, elsewhere) = (Double::start().await, Double::start().await);
        // Were a redirect followed, it would arrive.
        let verifier = verifier(&[&double.host, &elsewhere.host]);
        let platforms = Platforms::Any;
        let bench = Bench { double, verifier, keychain: Keychain::default(), platforms };
        let bench = match self.image {
            Image::Index(platforms) | Image::Children(platforms) => bench.on(&platforms[platforms.len() - 1..]),
            Image::Single | Image::Docker => bench,
        };
        let site = Site { bench, elsewhere, visitors: 0 };
        site.answer(self.api, None);
        site
    }
}

/// A registry.
struct Site {
    bench: Bench,
    /// Where redirects lead.
    elsewhere: Double,
    visitors: usize,
}

/// An image there.
struct Target {
    image: Sha256Digest,
    /// What is signed: the image, or its children.
    signed: Vec<Sha256Digest>,
}

impl Site {
    /// Lets the registry answer so, but for one request that fails.
    fn answer(&self, api: Api, failing: Option<String>) {
        if let Api::Mode(mode) = api {
            self.bench.double.referrers(mode);
        }
        let elsewhere = self.elsewhere.host.clone();
        self.bench.double.hook(move |asked, _: &HeaderMap| {
            if failing.as_deref() == Some(asked) {
                return Some(StatusCode::INTERNAL_SERVER_ERROR.into_response());
            }
            asked.starts_with("referrers/").then(|| api.answer(&elsewhere, asked)).flatten()
        });
    }

    fn push(&self, row: &Row, name: &str) -> Target {
        let double = &self.bench.double;
        let index = |platforms: &'static [&'static str]| {
            let child = |platform: &&'static str| (*platform, double.image(name, &format!("{name} {platform}")));
            let children: Vec<_> = platforms.iter().map(child).collect();
            let listed: Vec<_> = children.iter().map(|(platform, digest)| (*platform, digest)).collect();
            let index = double.index(name, &listed);
            let images = children.into_iter().filter(|(platform, _)| *platform != "unknown/unknown");
            (index, images.map(|(_, digest)| digest).collect::<Vec<_>>())
        };
        let alone = |image: Sha256Digest| Target { signed: vec![image.clone()], image };
        match row.image {
            Image::Single => alone(double.image(name, name)),
            Image::Docker => alone(docker_image(double, name)),
            Image::Index(platforms) => alone(index(platforms).0),
            Image::Children(platforms) => {
                let (image, signed) = index(platforms);
                Target { image, signed }
            }
        }
    }

    fn sign(&self, row: &Row, target: &Target, by: &Signer) {
        let (double, stranger) = (&self.bench.double, Signer::new());
        for image in &target.signed {
            let (mut document, other) = (row.document(by, image), row.document(&stranger, image));
            match row.put {
                Put::Attached(media_type) => {
                    document["mediaType"] = media_type.into();
                    double.attach(image, media_type, &document);
                }
                Put::AttachedAmongOthers => {
                    for other in [&other, &row.document(&Signer::new(), image), &json!({"no": "bundle"}), &document] {
                        double.attach(image, BUNDLE, other);
                    }
                }
                Put::FallbackTag(artifact_type) => {
                    double.attach_by_tag(image, BUNDLE, &[&other, &document], artifact_type);
                }
                Put::LegacyTag => row.put_legacy(double, image, by),
                Put::LegacyTagBesideBundles => {
                    double.attach(image, BUNDLE, &other);
                    row.put_legacy(double, image, by);
                }
            }
        }
    }

    /// Verifies for somebody new, to whom nothing of what is remembered is shown.
    async fn verify(&mut self, row: &Row, target: &Target, team: &Signer) -> String {
        self.visitors += 1;
        let visitor = json!({"username": self.visitors.to_string(), "password": "p"});
        let config = json!({"auths": {self.bench.double.host.clone(): visitor}}).to_string();
        self.bench.keychain = Keychain::from_docker_config(config.as_bytes()).unwrap();
        let policy = signed_by(team);
        match row.asks {
            Asks::Signature => match self.bench.verify(&target.image, &policy).await {
                Verdict::Proven(_) => "proven".to_owned(),
                Verdict::Refused(refusal) => format!("refused: {}", <&str>::from(refusal.reason)),
                Verdict::Unknown(unknown) => format!("unknown: {}", <&str>::from(unknown.cause)),
            },
            Asks::Sbom => match self.bench.sbom(&target.image, &policy).await {
                SbomVerdict::Found(_) => "proven".to_owned(),
                SbomVerdict::Refused(refusal) => format!("refused: {}", <&str>::from(refusal.reason)),
                SbomVerdict::Unknown(unknown) => format!("unknown: {}", <&str>::from(unknown.cause)),
            },
        }
    }
}

impl Row {
    /// What a signer says of an image: a bundle.
    fn document(&self, by: &Signer, image: &Sha256Digest) -> Value {
        match self.asks {
            Asks::Signature => by.bundle(image),
            Asks::Sbom => by.attestation(image, CYCLONEDX, &sbom()),
        }
    }

    fn put_legacy(&self, double: &Double, image: &Sha256Digest, by: &Signer) {
        match self.asks {
            Asks::Signature => double.sign_legacy(image, &[by.simple_signing(image)]),
            Asks::Sbom => double.attest_legacy(image, &[(by.envelope(image, CYCLONEDX, &sbom()), CYCLONEDX)]),
        }
    }
}

impl Api {
    fn answer(self, elsewhere: &str, asked: &str) -> Option<Response> {
        match self {
            Self::Mode(_) => None,
            Self::Status(status) => Some(StatusCode::from_u16(status).unwrap().into_response()),
            Self::Elsewhere => {
                let location = format!("http://{elsewhere}/v2/team/app/{asked}");
                Some((StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response())
            }
            Self::Page => Some("<html>Welcome to this registry</html>".into_response()),
        }
    }
}

fn sbom() -> Value {
    cyclonedx("1.6", "2026-01-01T00:00:00Z", &[("/bin/app", b"app")])
}

fn docker_image(double: &Double, name: &str) -> Sha256Digest {
    let mut config = double.blob(json!({"architecture": "amd64", "os": "linux", "name": name}).to_string().as_bytes());
    config["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    double.manifest(
        Some(name),
        &json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": config, "layers": []}),
    )
}
