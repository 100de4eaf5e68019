//! A registry in memory that takes its time, counts what it is asked, and has images of every kind.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;

use crate::error::{Error, Result};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What is attached to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A bundle by the policy's key, as a referrer.
    Signed,
    /// Simple signing by the policy's key, under a `.sig` tag.
    Legacy,
    /// Nothing.
    Unsigned,
    /// A bundle by another key.
    OtherKey,
    /// A list of referrers that is no JSON.
    Garbage,
    /// A list of referrers longer than anybody reads.
    Endless,
}

type Document = (&'static str, Arc<Vec<u8>>);

/// The registry; it ends with the program.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    /// `address:port`.
    pub host: String,
}

struct Inner {
    key: EcdsaKeyPair,
    other: EcdsaKeyPair,
    /// By `manifests/…`, `blobs/…` and `referrers/…`.
    documents: RwLock<HashMap<String, Document>>,
    asked: AtomicU64,
    made: AtomicU64,
    latency: AtomicU64,
}

impl Registry {
    /// On a free port of this address.
    pub async fn start(address: Ipv4Addr) -> Result<Self> {
        let failed =
            |error: &dyn std::fmt::Display| Error::Invalid(format!("the bench's registry on {address}: {error}"));
        let key = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|error| failed(&error));
        let listener = tokio::net::TcpListener::bind(SocketAddr::from((address, 0))).await.map_err(|e| failed(&e))?;
        let host = listener.local_addr().map_err(|error| failed(&error))?.to_string();
        let inner = Inner {
            key: key()?,
            other: key()?,
            documents: RwLock::default(),
            asked: AtomicU64::new(0),
            made: AtomicU64::new(0),
            latency: AtomicU64::new(0),
        };
        let registry = Self { inner: Arc::new(inner), host };
        let router = Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(registry)
    }

    /// The key that policies name, PEM.
    pub fn public_key(&self) -> Result<String> {
        let der: PublicKeyX509Der<'_> = self
            .inner
            .key
            .public_key()
            .as_der()
            .map_err(|_| Error::Invalid("the bench's key can't be written".into()))?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
    }

    /// How long each answer is held back.
    pub fn latency(&self, latency: Duration) {
        self.inner.latency.store(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.inner.asked.load(Ordering::SeqCst)
    }

    /// Makes an image nobody has asked for yet, and returns its reference by digest.
    pub fn image(&self, kind: Kind) -> Result<String> {
        let number = self.inner.made.fetch_add(1, Ordering::SeqCst);
        let config =
            self.blob(json!({"architecture": "amd64", "os": "linux", "number": number}).to_string().into_bytes());
        let config = described(&config, "application/vnd.oci.image.config.v1+json");
        let image = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        let image = self.manifest(None, &image);
        let referrers =
            |listed: &[Value]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).to_string();
        let list = match kind {
            Kind::Signed => referrers(&[self.bundle(&self.inner.key, &image)?]),
            Kind::OtherKey => referrers(&[self.bundle(&self.inner.other, &image)?]),
            Kind::Unsigned => referrers(&[]),
            Kind::Legacy => {
                self.legacy(&image)?;
                referrers(&[])
            }
            Kind::Garbage => "{\"manifests\": [{".to_owned(),
            Kind::Endless => format!("{{\"manifests\": [{}", "{},".repeat(4 << 20)),
        };
        self.put(format!("referrers/{image}"), INDEX, list.into_bytes());
        Ok(format!("{}/bench/app@{image}", self.host))
    }

    fn bundle(&self, key: &EcdsaKeyPair, image: &Sha256Digest) -> Result<Value> {
        let payload =
            json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": image.hex()}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}})
            .to_string();
        let kind = "application/vnd.in-toto+json";
        let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let bundle = json!({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "bench"}},
            "dsseEnvelope": {"payload": STANDARD.encode(&payload), "payloadType": kind,
                "signatures": [{"sig": sign(key, message.as_bytes())?}]}});
        let layer = described(&self.blob(bundle.to_string().into_bytes()), BUNDLE);
        let config = described(&self.blob(b"{}".to_vec()), "application/vnd.oci.empty.v1+json");
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE, "config": config,
            "layers": [layer], "subject": {"mediaType": MANIFEST, "digest": image, "size": 1}});
        let digest = self.manifest(None, &manifest);
        Ok(json!({"mediaType": MANIFEST, "artifactType": BUNDLE, "digest": digest, "size": 1}))
    }

    fn legacy(&self, image: &Sha256Digest) -> Result<()> {
        let payload = json!({"critical": {"identity": {"docker-reference": "bench"},
            "image": {"docker-manifest-digest": image}, "type": "cosign container image signature"}, "optional": null});
        let payload = payload.to_string().into_bytes();
        let signature = sign(&self.inner.key, &payload)?;
        let mut layer = described(&self.blob(payload), "application/vnd.dev.cosign.simplesigning.v1+json");
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
        let config = described(&self.blob(b"{}".to_vec()), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.manifest(Some(&format!("sha256-{}.sig", image.hex())), &manifest);
        Ok(())
    }

    fn blob(&self, bytes: Vec<u8>) -> Value {
        let (digest, size) = (Sha256Digest::of(&bytes), bytes.len());
        self.put(format!("blobs/{digest}"), "application/octet-stream", bytes);
        json!({"digest": digest, "size": size})
    }

    fn manifest(&self, tag: Option<&str>, manifest: &Value) -> Sha256Digest {
        let bytes = manifest.to_string().into_bytes();
        let digest = Sha256Digest::of(&bytes);
        for reference in tag.map(str::to_owned).into_iter().chain([digest.to_string()]) {
            self.put(format!("manifests/{reference}"), MANIFEST, bytes.clone());
        }
        digest
    }

    fn put(&self, name: String, media_type: &'static str, bytes: Vec<u8>) {
        let mut documents = self.inner.documents.write().unwrap_or_else(PoisonError::into_inner);
        documents.insert(name, (media_type, Arc::new(bytes)));
    }
}

fn sign(key: &EcdsaKeyPair, message: &[u8]) -> Result<String> {
    let signature = key.sign(&SystemRandom::new(), message);
    Ok(STANDARD.encode(signature.map_err(|_| Error::Invalid("the bench's key can't sign".into()))?))
}

fn described(blob: &Value, media_type: &str) -> Value {
    let mut descriptor = blob.clone();
    descriptor["mediaType"] = media_type.into();
    descriptor
}

async fn answer(State(registry): State<Registry>, request: Request) -> Response {
    registry.inner.asked.fetch_add(1, Ordering::SeqCst);
    let held = Duration::from_millis(registry.inner.latency.load(Ordering::SeqCst));
    if !held.is_zero() {
        tokio::time::sleep(held).await;
    }
    let path = request.uri().path();
    let name = ["manifests/", "blobs/", "referrers/"].iter().find_map(|kind| path.find(kind).map(|at| &path[at..]));
    let documents = registry.inner.documents.read().unwrap_or_else(PoisonError::into_inner);
    match name.and_then(|name| documents.get(name)) {
        Some((media_type, bytes)) => ([("content-type", *media_type)], bytes.to_vec()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
