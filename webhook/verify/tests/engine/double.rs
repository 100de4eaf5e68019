//! A registry on this machine: content, the referrers API in its varieties, and faults on demand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How the referrers API answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Referrers {
    /// As the specification has it.
    #[default]
    Listed,
    /// 404.
    Absent,
    /// 200 with an empty list, whatever there is.
    Empty,
    /// One to a page.
    Paged,
    /// Pages without end.
    Endless,
    /// With the config's type for the artifact's, as some registries do.
    Mistyped,
    /// Without any type.
    Untyped,
}

type Hook = Box<dyn Fn(&str, &HeaderMap) -> Option<Response> + Send + Sync>;

#[derive(Default)]
struct Content {
    /// By tag and by digest.
    manifests: HashMap<String, (String, Vec<u8>)>,
    blobs: HashMap<String, Vec<u8>>,
    /// Descriptors by subject.
    referrers: HashMap<String, Vec<Value>>,
    mode: Referrers,
    hook: Option<Hook>,
    hook_paths: Option<Hook>,
    asked: Vec<String>,
}

/// A registry; it ends with the test's runtime.
#[derive(Clone)]
pub struct Double {
    content: Arc<Mutex<Content>>,
    /// `127.0.0.1:port`.
    pub host: String,
}

impl Double {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (double, router) = Self::at(host);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        double
    }

    /// One that is to be served at a host, and its answers.
    pub fn at(host: String) -> (Self, Router) {
        let double = Self { content: Arc::default(), host };
        let router = Router::new().fallback(answer).with_state(double.clone());
        (double, router)
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    pub fn referrers(&self, mode: Referrers) {
        self.lock().mode = mode;
    }

    /// Answers in place of the registry where `hook` gives an answer; it sees `kind/reference`, such as
    /// `manifests/latest`, and what else the request says.
    pub fn hook(&self, hook: impl Fn(&str, &HeaderMap) -> Option<Response> + Send + Sync + 'static) {
        self.lock().hook = Some(Box::new(hook));
    }

    /// The same by the path of the request, before anything else.
    pub fn hook_paths(&self, hook: impl Fn(&str, &HeaderMap) -> Option<Response> + Send + Sync + 'static) {
        self.lock().hook_paths = Some(Box::new(hook));
    }

    /// Takes in what was recorded from another registry.
    pub fn load(&self, recorded: &Value) {
        let mut content = self.lock();
        let of = |field: &str| recorded[field].as_object().unwrap().clone().into_iter();
        content.manifests.extend(of("manifests").map(|(reference, manifest)| {
            let text = |field: &str| manifest[field].as_str().unwrap().to_owned();
            (reference, (text("mediaType"), text("body").into_bytes()))
        }));
        content.blobs.extend(of("blobs").map(|(digest, blob)| (digest, blob.as_str().unwrap().as_bytes().to_vec())));
        content.referrers.extend(of("referrers").map(|(digest, list)| (digest, list.as_array().unwrap().clone())));
    }

    /// What was asked since the last time, without the repository.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().asked)
    }

    pub fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Sha256Digest::of(bytes);
        self.lock().blobs.insert(digest.to_string(), bytes.to_vec());
        json!({"digest": digest, "size": bytes.len()})
    }

    pub fn manifest(&self, tag: Option<&str>, manifest: &Value) -> Sha256Digest {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = Sha256Digest::of(&bytes);
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        let mut content = self.lock();
        for reference in tag.map(str::to_owned).into_iter().chain([digest.to_string()]) {
            content.manifests.insert(reference, (media_type.clone(), bytes.clone()));
        }
        if let Some(subject) = manifest["subject"]["digest"].as_str() {
            let artifact = manifest["artifactType"].as_str().unwrap_or_default();
            let descriptor =
                json!({"mediaType": media_type, "digest": digest, "size": bytes.len(), "artifactType": artifact});
            content.referrers.entry(subject.to_owned()).or_default().push(descriptor);
        }
        digest
    }

    /// An image of one layer, told from others by `name`.
    pub fn image(&self, tag: &str, name: &str) -> Sha256Digest {
        let mut config =
            self.blob(json!({"architecture": "amd64", "os": "linux", "name": name}).to_string().as_bytes());
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        self.manifest(Some(tag), &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}))
    }

    /// An index over children by platform, such as `linux/amd64`.
    pub fn index(&self, tag: &str, children: &[(&str, &Sha256Digest)]) -> Sha256Digest {
        let children: Vec<_> = children
            .iter()
            .map(|(platform, digest)| {
                let (os, architecture) = platform.split_once('/').unwrap();
                json!({"mediaType": MANIFEST, "digest": digest, "size": 1,
                    "platform": {"os": os, "architecture": architecture}})
            })
            .collect();
        self.manifest(Some(tag), &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}))
    }

    /// Attaches a document by reference, as cosign does: a manifest whose subject is the image.
    pub fn attach(&self, image: &Sha256Digest, media_type: &str, document: &Value) -> Sha256Digest {
        let manifest = self.artifact(Some(image), media_type, document);
        self.manifest(None, &manifest)
    }

    /// Attaches any bytes as a document of a type.
    pub fn attach_bytes(&self, image: &Sha256Digest, media_type: &str, bytes: &[u8]) -> Sha256Digest {
        let mut manifest = self.artifact(Some(image), media_type, &Value::Null);
        let mut layer = self.blob(bytes);
        layer["mediaType"] = media_type.into();
        manifest["layers"] = json!([layer]);
        self.manifest(None, &manifest)
    }

    /// A manifest that carries a document.
    pub fn artifact(&self, image: Option<&Sha256Digest>, media_type: &str, document: &Value) -> Value {
        let mut layer = self.blob(document.to_string().as_bytes());
        layer["mediaType"] = media_type.into();
        let mut config = self.blob(b"{}");
        config["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": media_type, "config": config,
            "layers": [layer]});
        if let Some(image) = image {
            manifest["subject"] = json!({"mediaType": MANIFEST, "digest": image, "size": 1});
        }
        manifest
    }

    /// Attaches by the fallback tag alone, with descriptors of a type.
    pub fn attach_by_tag(&self, image: &Sha256Digest, media_type: &str, documents: &[&Value], artifact_type: &str) {
        let manifests: Vec<_> = documents
            .iter()
            .map(|document| {
                let manifest = self.artifact(None, media_type, document);
                let digest = self.manifest(None, &manifest);
                json!({"mediaType": MANIFEST, "digest": digest, "size": 1, "artifactType": artifact_type})
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.manifest(Some(&format!("sha256-{}", image.hex())), &index);
    }

    /// Legacy signatures: payloads and their signatures under the `.sig` tag.
    pub fn sign_legacy(&self, image: &Sha256Digest, signatures: &[(String, String)]) {
        let beside = |signature: &String| json!({"dev.cosignproject.cosign/signature": signature});
        let layers: Vec<_> = signatures.iter().map(|(payload, s)| (payload.clone(), beside(s))).collect();
        self.sign_legacy_beside(image, &layers);
    }

    /// The same with all that stands beside a payload.
    pub fn sign_legacy_beside(&self, image: &Sha256Digest, signatures: &[(String, Value)]) {
        let layers = signatures.iter().map(|(payload, beside)| {
            let mut layer = self.blob(payload.as_bytes());
            layer["mediaType"] = "application/vnd.dev.cosign.simplesigning.v1+json".into();
            layer["annotations"] = beside.clone();
            layer
        });
        self.legacy(image, "sig", &layers.collect::<Vec<_>>());
    }

    /// Legacy attestations: envelopes under the `.att` tag.
    pub fn attest_legacy(&self, image: &Sha256Digest, envelopes: &[(Value, &str)]) {
        let layers = envelopes.iter().map(|(envelope, predicate_type)| {
            let mut layer = self.blob(envelope.to_string().as_bytes());
            layer["mediaType"] = "application/vnd.dsse.envelope.v1+json".into();
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": "", "predicateType": predicate_type});
            layer
        });
        self.legacy(image, "att", &layers.collect::<Vec<_>>());
    }

    fn legacy(&self, image: &Sha256Digest, suffix: &str, layers: &[Value]) {
        let mut config = self.blob(b"{\"legacy\":true}");
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.manifest(Some(&format!("sha256-{}.{suffix}", image.hex())), &manifest);
    }
}

async fn answer(State(double): State<Double>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let answered = double.lock().hook_paths.as_ref().and_then(|hook| hook(&path, request.headers()));
    if let Some(answered) = answered {
        return answered;
    }
    let Some((kind, reference)) = ["manifests", "blobs", "referrers"]
        .iter()
        .find_map(|kind| path.rsplit_once(&format!("/{kind}/")).map(|(_, reference)| (*kind, reference.to_owned())))
    else {
        let answered = double.lock().hook.as_ref().and_then(|hook| hook(&path, request.headers()));
        return answered.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response());
    };
    let mut content = double.lock();
    let asked = format!("{kind}/{reference}");
    content.asked.push(asked.clone());
    if let Some(answered) = content.hook.as_ref().and_then(|hook| hook(&asked, request.headers())) {
        return answered;
    }
    match kind {
        "manifests" => match content.manifests.get(&reference) {
            Some((media_type, bytes)) => manifest(media_type, bytes.clone()),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        "blobs" => match content.blobs.get(&reference) {
            Some(bytes) => bytes.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => content.list(&reference, &path, request.uri().query()),
    }
}

/// A manifest as registries send it.
pub fn manifest(media_type: &str, bytes: Vec<u8>) -> Response {
    let digest = Sha256Digest::of(&bytes).to_string();
    ([("content-type", media_type.to_owned()), ("docker-content-digest", digest)], bytes).into_response()
}

impl Content {
    fn list(&self, subject: &str, path: &str, query: Option<&str>) -> Response {
        let mut found = self.referrers.get(subject).cloned().unwrap_or_default();
        let page: usize = query.and_then(|query| query.strip_prefix("page=")).map_or(0, |page| page.parse().unwrap());
        let mut next = None;
        match self.mode {
            Referrers::Listed => {}
            Referrers::Absent => return StatusCode::NOT_FOUND.into_response(),
            Referrers::Empty => found.clear(),
            Referrers::Paged => {
                next = (page + 1 < found.len()).then(|| format!("<{path}?page={}>; rel=\"next\"", page + 1));
                found = found.into_iter().skip(page).take(1).collect();
            }
            Referrers::Endless => next = Some(format!("<{path}?page={}>; rel=\"next\"", page + 1)),
            Referrers::Untyped => {
                for descriptor in &mut found {
                    descriptor.as_object_mut().unwrap().remove("artifactType");
                }
            }
            Referrers::Mistyped => {
                for descriptor in &mut found {
                    descriptor["artifactType"] = "application/vnd.oci.empty.v1+json".into();
                }
            }
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": found});
        let mut response = Response::builder().header("content-type", INDEX);
        if let Some(next) = next {
            response = response.header("link", next);
        }
        response.body(Body::from(index.to_string())).unwrap()
    }
}
