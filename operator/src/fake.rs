//! An API server for tests: objects by path, server-side apply as replacement, every write noted in its order.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use http::{Method, Request, Response};
use kube::{Client, api::DynamicObject, client::Body};
use serde_json::{Value, json};

use crate::rollout::{Installation, Object};

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
    refused: BTreeSet<String>,
    version: u64,
}

/// The server; clones are the same one.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<State>>);

impl Server {
    /// A client of it.
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                Ok::<_, Infallible>(server.answer(&parts.method, parts.uri.path(), &body))
            }
        });
        Client::new(service, "default")
    }

    /// The object as it is stored.
    pub fn object(&self, object: Object, installation: &Installation) -> Option<DynamicObject> {
        let stored = self.lock().objects.get(&path(self, object, installation)).cloned();
        stored.map(|value| serde_json::from_value(value).unwrap())
    }

    /// Changes a stored object, as somebody else would.
    pub fn change(&self, object: Object, installation: &Installation, change: impl FnOnce(&mut Value)) {
        let path = path(self, object, installation);
        change(self.lock().objects.get_mut(&path).unwrap());
    }

    /// Removes a stored object, as somebody else would.
    pub fn lose(&self, object: Object, installation: &Installation) {
        let path = path(self, object, installation);
        self.lock().objects.remove(&path);
    }

    /// Refuses every write of this object from now on.
    pub fn refuse(&self, object: Object, installation: &Installation) {
        let path = path(self, object, installation);
        self.lock().refused.insert(path);
    }

    /// The writes since the last call, such as `apply zastava-webhook (deployments)`.
    pub fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().writes)
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
        let mut state = self.lock();
        let mut steps = path.rsplit('/');
        let (name, plural) = (steps.next().unwrap_or_default(), steps.next().unwrap_or_default());
        if *method != Method::GET && state.refused.contains(path) {
            return failure(403, "Forbidden");
        }
        match *method {
            Method::PATCH => {
                state.writes.push(format!("apply {name} ({plural})"));
                let mut sent: Value = serde_json::from_slice(body).unwrap();
                let old = state.objects.get(path).cloned();
                let metadata = sent["metadata"].as_object_mut().unwrap();
                let kept = |field: &str| old.as_ref().map(|old| old["metadata"][field].clone());
                metadata.insert("uid".to_owned(), kept("uid").unwrap_or_else(|| json!(format!("uid of {path}"))));
                metadata.insert("resourceVersion".to_owned(), kept("resourceVersion").unwrap_or_else(|| json!("0")));
                if old.as_ref() != Some(&sent) {
                    state.version += 1;
                    sent["metadata"]["resourceVersion"] = json!(state.version.to_string());
                }
                state.objects.insert(path.to_owned(), sent.clone());
                success(&sent)
            }
            Method::DELETE => {
                state.writes.push(format!("delete {name} ({plural})"));
                match state.objects.remove(path) {
                    Some(_) => success(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
                    None => failure(404, "NotFound"),
                }
            }
            _ => state.objects.get(path).map_or_else(|| failure(404, "NotFound"), success),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn path(server: &Server, object: Object, installation: &Installation) -> String {
    format!("{}/{}", object.api(server.client(), installation).resource_url(), object.name())
}

fn success(value: &Value) -> Response<Body> {
    Response::new(Body::from(serde_json::to_vec(value).unwrap()))
}

fn failure(code: u16, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason,
    });
    Response::builder().status(code).body(Body::from(serde_json::to_vec(&status).unwrap())).unwrap()
}
