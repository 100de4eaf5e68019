//! Pods as a test knows them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use zastava_crds::wire::report::WorkloadRef;

use crate::{
    finding::attribute::{PodSource, PodsUnavailable},
    pods::{Found, Pod},
};

/// Pods as a test knows them; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakePods(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    pods: HashMap<String, Found>,
    over: HashSet<String>,
    away: bool,
}

/// A pod of a Deployment.
pub(crate) fn pod(namespace: &str, uid: &str, node: &str, deployment: &str) -> Arc<Pod> {
    Arc::new(Pod {
        uid: uid.to_owned(),
        namespace: namespace.to_owned(),
        name: format!("{deployment}-{uid}"),
        node: Some(node.to_owned()),
        labels: BTreeMap::new(),
        workload: WorkloadRef { kind: "Deployment".to_owned(), name: deployment.to_owned() },
        containers: Vec::new(),
        image_volumes: Vec::new(),
        finished: false,
    })
}

impl FakePods {
    pub(crate) fn live(&self, pod: Arc<Pod>) {
        self.0.lock().unwrap().pods.insert(pod.uid.clone(), Found::Live(pod));
    }

    pub(crate) fn gone(&self, pod: Arc<Pod>) {
        self.0.lock().unwrap().pods.insert(pod.uid.clone(), Found::Gone(pod));
    }

    pub(crate) fn over(&self, reporter: &str) {
        self.0.lock().unwrap().over.insert(reporter.to_owned());
    }

    pub(crate) fn away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }
}

impl PodSource for FakePods {
    async fn find(&self, _: &str, _: &str, _: &str, uid: &str) -> Result<Found, PodsUnavailable> {
        let inner = self.0.lock().unwrap();
        if inner.away {
            return Err(PodsUnavailable("away".to_owned()));
        }
        Ok(inner.pods.get(uid).cloned().unwrap_or(Found::Never))
    }

    fn is_over(&self, reporter: &str) -> bool {
        self.0.lock().unwrap().over.contains(reporter)
    }
}
