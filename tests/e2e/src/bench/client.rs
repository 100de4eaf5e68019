//! The two ways in: reviews straight to the webhook, as the API server sends them, and pods through the API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// What is asked: a request, and whether its answer is a yes.
pub trait Asks: Clone + Send + Sync + 'static {
    /// Whether a pod of these images may start.
    fn ask(&self, images: &[String]) -> impl Future<Output = Result<bool>> + Send;
}

/// The webhook, reached at its pod, by its name, under its certificate.
#[derive(Clone)]
pub struct Direct {
    http: reqwest::Client,
    url: String,
}

impl Direct {
    /// To the entry of a policy.
    pub fn new(pod: SocketAddr, ca_pem: &[u8], policy_uid: &str) -> Result<Self> {
        let name = "zastava-webhook.zastava-system.svc";
        let failed = |error: reqwest::Error| Error::Invalid(format!("a client of the webhook: {error}"));
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(ca_pem).map_err(failed)?])
            .resolve(name, pod)
            .timeout(Duration::from_secs(20))
            .build()
            .map_err(failed)?;
        Ok(Self { http, url: format!("https://{name}:{}/validate/{policy_uid}?timeout=10s", pod.port()) })
    }
}

impl Asks for Direct {
    async fn ask(&self, images: &[String]) -> Result<bool> {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "b1e5a9d0-0000-4000-8000-000000000001",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "bench", "operation": "CREATE", "userInfo": {"username": "bench"}, "dryRun": true,
            "object": pod(images), "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"}}});
        let failed = |error: reqwest::Error| Error::Invalid(format!("a review: {error}"));
        let answer = self.http.post(&self.url).json(&review).send().await.map_err(failed)?;
        let answer: Value = answer.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
        answer["response"]["allowed"].as_bool().ok_or_else(|| Error::Invalid(format!("no answer: {answer}")))
    }
}

/// The API server, asked for pods that it does not keep.
#[derive(Clone)]
pub struct ApiServer {
    pods: Api<Pod>,
}

impl ApiServer {
    /// In a namespace.
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self { pods: Api::namespaced(client.clone(), namespace) }
    }
}

impl Asks for ApiServer {
    async fn ask(&self, images: &[String]) -> Result<bool> {
        let mut object = pod(images);
        object["metadata"]["namespace"] = Value::Null;
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        match self.pods.create(&parameters, &serde_json::from_value(object)?).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn pod(images: &[String]) -> Value {
    let containers: Vec<_> =
        images.iter().enumerate().map(|(i, image)| json!({"name": format!("c{i}"), "image": image})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bench", "namespace": "bench"},
        "spec": {"containers": containers}})
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Answers {
    /// How long each took.
    pub latencies: Vec<Duration>,
    /// How many were not `expected`, or no answer at all.
    pub wrong: u64,
}

/// Sends all requests, so many at a time, each client its next one as soon as it has an answer.
pub async fn load<A: Asks>(asks: &A, requests: &[Vec<String>], clients: usize, expected: bool) -> Result<Answers> {
    let requests: Arc<Vec<Vec<String>>> = Arc::new(requests.to_vec());
    let next = Arc::new(AtomicUsize::new(0));
    let one = || {
        let (asks, requests, next) = (asks.clone(), Arc::clone(&requests), Arc::clone(&next));
        tokio::spawn(async move {
            let mut answers = Answers::default();
            while let Some(images) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let began = Instant::now();
                let answer = asks.ask(images).await;
                answers.latencies.push(began.elapsed());
                answers.wrong += u64::from(!matches!(answer, Ok(allowed) if allowed == expected));
            }
            answers
        })
    };
    let all = try_join_all((0..clients).map(|_| one())).await.map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(all.into_iter().fold(Answers::default(), |mut sum, answers| {
        sum.latencies.extend(answers.latencies);
        sum.wrong += answers.wrong;
        sum
    }))
}
