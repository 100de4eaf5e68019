//! A scenario's own namespace on a shared cluster, and the acts that scenarios are told with.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use zastava_crds::finding::RuntimeFinding;
use zastava_crds::policy::ZastavaPolicy;

use crate::command::{Finished, finish};
use crate::error::{Error, Result};
use crate::signer::Signer;
use crate::stage::Stage;
use crate::wait::{Seen, until};

/// The field manager of everything that scenarios apply.
const MANAGER: &str = "zastava-e2e";
/// How long a policy may take until it is in force.
const READY: Duration = Duration::from_secs(90);
/// How long a pod may take until it runs.
const RUNNING: Duration = Duration::from_mins(1);

/// What the API server made of an object.
#[derive(Debug)]
pub enum Answer {
    /// It took it; the object as it is stored.
    Taken(Box<DynamicObject>),
    /// It refused it, with this message.
    Refused(String),
}

impl Answer {
    /// The stored object.
    pub fn taken(self) -> Result<DynamicObject> {
        match self {
            Self::Taken(object) => Ok(*object),
            Self::Refused(message) => Err(Error::Invalid(format!("refused, and should have been taken: {message}"))),
        }
    }

    /// The message of the refusal.
    pub fn refused(self) -> Result<String> {
        match self {
            Self::Refused(message) => Ok(message),
            Self::Taken(object) => {
                let name = object.metadata.name.unwrap_or_default();
                Err(Error::Invalid(format!("taken, and should have been refused: {name}")))
            }
        }
    }
}

/// A namespace, and what happens in it.
pub struct Scene<'a> {
    stage: &'a Stage,
    client: Client,
    namespace: String,
}

impl<'a> Scene<'a> {
    /// An empty namespace whose name starts with `name`.
    pub async fn open(stage: &'a Stage, name: &str) -> Result<Self> {
        let client = stage.client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let asked = object(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"generateName": format!("{name}-"), "labels": {"zastava-e2e": "scene"}},
        }))?;
        let made = namespaces.create(&PostParams::default(), &asked).await?;
        Ok(Self { stage, client, namespace: made.metadata.name.unwrap_or_default() })
    }

    /// The namespace `name`, made if it is not there.
    pub async fn at(stage: &'a Stage, name: &str) -> Result<Self> {
        let client = stage.client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let wanted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        namespaces.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(&wanted)).await?;
        Ok(Self { stage, client, namespace: name.to_owned() })
    }

    /// Removes the namespace and the policy, and waits until they are gone.
    pub async fn close(&self) -> Result<()> {
        self.remove_policy().await?;
        self.delete_namespace().await
    }

    /// Deletes the namespace and waits until it is gone.
    pub async fn delete_namespace(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        ignore_missing(namespaces.delete(&self.namespace, &DeleteParams::default()).await)?;
        until(&format!("namespace {} is gone", self.namespace), Duration::from_secs(90), async || {
            Ok(match namespaces.get_opt(&self.namespace).await? {
                None => Seen::There(()),
                Some(left) => Seen::NotYet(serde_json::to_string(&left.status)?),
            })
        })
        .await
    }

    /// The cluster.
    pub fn stage(&self) -> &'a Stage {
        self.stage
    }

    /// A client with all rights.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace; the scene's policy has its name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Applies the scene's policy, which speaks for this namespace only, and waits until it is in force.
    pub async fn policy(&self, spec: Value) -> Result<()> {
        self.apply_policy(spec).await?;
        self.policy_ready().await
    }

    /// Applies the scene's policy, and does not wait.
    pub async fn apply_policy(&self, mut spec: Value) -> Result<()> {
        spec["match"]["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace}});
        let policies: Api<ZastavaPolicy> = Api::all(self.client.clone());
        let policy = json!({
            "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
            "metadata": {"name": self.namespace}, "spec": spec,
        });
        policies.patch(&self.namespace, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&policy)).await?;
        Ok(())
    }

    /// Waits until the scene's policy, as it was applied last, is Ready.
    pub async fn policy_ready(&self) -> Result<()> {
        ready(&self.client, &self.namespace, READY).await
    }

    /// Removes the scene's policy.
    pub async fn remove_policy(&self) -> Result<()> {
        let policies: Api<ZastavaPolicy> = Api::all(self.client.clone());
        ignore_missing(policies.delete(&self.namespace, &DeleteParams::default()).await)
    }

    /// An Enforce policy's admission part: signed by the cluster's key pair `key`.
    pub fn signed_by(&self, key: &str) -> Result<Value> {
        let pem = Signer::named(key, self.stage.keys(), self.stage.registry())?.public_key()?;
        Ok(json!({"signatures": [{"name": "team", "authorities": [{"key": {"pem": pem}}]}]}))
    }

    /// Creates an object in the namespace.
    pub async fn create(&self, manifest: Value) -> Result<Answer> {
        let object: DynamicObject = object(manifest)?;
        let api = self.api(&object)?;
        answer(api.create(&PostParams::default(), &object).await)
    }

    /// Applies an object in the namespace, server-side.
    pub async fn apply(&self, manifest: Value) -> Result<Answer> {
        let object: DynamicObject = object(manifest)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        answer(self.api(&object)?.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await)
    }

    /// A pod with one container `main`, which waits.
    pub fn pod(&self, name: &str, image: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": pod_spec(image),
        })
    }

    /// Creates such a pod and waits until it runs.
    pub async fn run(&self, name: &str, image: &str) -> Result<Pod> {
        self.create(self.pod(name, image)).await?.taken()?;
        self.running(name).await
    }

    /// Deletes a pod and waits until it is gone; fine if there is none.
    pub async fn forget(&self, name: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        ignore_missing(pods.delete(name, &DeleteParams::default().grace_period(0)).await)?;
        until(&format!("pod {name} is gone"), RUNNING, async || {
            Ok(pods
                .get_opt(name)
                .await?
                .map_or(Seen::There(()), |pod| Seen::NotYet(format!("{:?}", pod.metadata.deletion_timestamp))))
        })
        .await
    }

    /// Waits until a pod runs and is ready.
    pub async fn running(&self, name: &str) -> Result<Pod> {
        self.running_within(name, RUNNING).await
    }

    /// The same for one that takes longer than usual.
    pub async fn running_within(&self, name: &str, within: Duration) -> Result<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        until(&format!("pod {name} runs"), within, async || {
            let Some(pod) = pods.get_opt(name).await? else {
                return Ok(Seen::NotYet("no such pod".into()));
            };
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            let ready =
                conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
            Ok(if ready {
                Seen::There(pod)
            } else {
                Seen::NotYet(crate::release::pods(&self.client, &self.namespace).await?)
            })
        })
        .await
    }

    /// Runs a program in the pod's first container, as `kubectl exec` does.
    pub fn exec(&self, pod: &str, line: &[&str]) -> Result<Finished> {
        finish(self.stage.tool("kubectl").args(["exec", "--namespace", &self.namespace, pod, "--"]).args(line))
    }

    /// Runs a shell script in the pod's first container.
    pub fn shell(&self, pod: &str, script: &str) -> Result<Finished> {
        self.exec(pod, &["/bin/sh", "-c", script])
    }

    /// The findings of the namespace.
    pub async fn findings(&self) -> Result<Vec<RuntimeFinding>> {
        let findings: Api<RuntimeFinding> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(findings.list(&ListParams::default()).await?.items)
    }

    /// Waits for a finding of the namespace that `wanted` accepts.
    pub async fn finding(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&RuntimeFinding) -> bool,
    ) -> Result<RuntimeFinding> {
        until(&format!("a finding in {}: {what}", self.namespace), within, async || {
            let all = self.findings().await?;
            let seen: String = all.iter().map(line).collect();
            // It is created first, and its status written then.
            let told = all.into_iter().find(|finding| finding.status.is_some() && wanted(finding));
            Ok(told.map_or(Seen::NotYet(seen), Seen::There))
        })
        .await
    }

    fn api(&self, object: &DynamicObject) -> Result<Api<DynamicObject>> {
        let types =
            object.types.clone().ok_or_else(|| Error::Invalid("a manifest needs apiVersion and kind".into()))?;
        let kind = GroupVersionKind::try_from(types).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(&kind)))
    }
}

/// A finding on a line of its own.
fn line(finding: &RuntimeFinding) -> String {
    let (spec, status) = (&finding.spec, finding.status.clone().unwrap_or_default());
    let message = status.evidence.map(|evidence| evidence.message).unwrap_or_default();
    let (count, scan) = (status.count, status.scan.map(|scan| scan.summary).unwrap_or_default());
    format!("\n    {} of {} {}: {count} times, scan {scan:?}: {message}", spec.type_, spec.workload.name, spec.subject)
}

/// The spec of a pod with one container `main`, which waits.
pub fn pod_spec(image: &str) -> Value {
    json!({
        "containers": [{"name": "main", "image": image}],
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": false,
    })
}

/// Waits until the policy `name`, as it was applied last, is Ready.
pub async fn ready(client: &Client, name: &str, within: Duration) -> Result<()> {
    let policies: Api<ZastavaPolicy> = Api::all(client.clone());
    until(&format!("policy {name} is Ready"), within, async || {
        let policy = policies.get(name).await?;
        let status = policy.status.unwrap_or_default();
        let current = Some(status.observed_generation) == policy.metadata.generation;
        let met = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if current && met {
            return Ok(Seen::There(()));
        }
        let said =
            status.conditions.iter().map(|one| format!("{}={} {}: {}", one.type_, one.status, one.reason, one.message));
        let said: Vec<String> = said.collect();
        Ok(Seen::NotYet(format!(
            "observedGeneration {} of {:?}; {}",
            status.observed_generation,
            policy.metadata.generation,
            said.join("; ")
        )))
    })
    .await
}

fn object<T: serde::de::DeserializeOwned>(manifest: Value) -> Result<T> {
    Ok(serde_json::from_value(manifest)?)
}

fn answer(result: kube::Result<DynamicObject>) -> Result<Answer> {
    match result {
        Ok(object) => Ok(Answer::Taken(Box::new(object))),
        // What admission refuses comes back as 403, or as the code that the webhook chose.
        Err(kube::Error::Api(status))
            if (400..500).contains(&status.code) && status.code != 404 && status.code != 409 =>
        {
            Ok(Answer::Refused(status.message.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

fn ignore_missing<T>(result: kube::Result<T>) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(Error::from),
    }
}
