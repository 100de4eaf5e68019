//! Who is believed: the intake, asked by a stranger and with the tokens of observers.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use zastava_crds::finding::RuntimeFinding;
use zastava_crds::wire::report::{AUDIENCE, BatchReceipt, REPORTS_PATH, RefusedReason};
use zastava_e2e::release::NAMESPACE;
use zastava_e2e::scene::Scene;
use zastava_e2e::stage::Stage;
use zastava_e2e::wait::{Seen, until};
use zastava_e2e::workload::Workload;

use super::victim::{leader, observer_of, observers};
use crate::ground::{Told, scenario};

const HOST: &str = "zastava-intake.zastava-system.svc";
const POD: &str = "app";

#[tokio::test]
async fn the_intake_believes_each_observer_about_its_own_pods() {
    scenario("intake", async |scene| {
        let image = Workload::push(scene.stage(), &format!("{}-app", scene.namespace()), "1", "intake")?;
        scene.policy(json!({"runtime": {"drift": {"action": "Audit"}}})).await?;
        scene.run(POD, &image.reference().tagged()).await?;
        let (client, namespace) = (scene.client(), scene.namespace());
        let intake = Intake::open(scene.stage(), client).await?;
        let own = Reporter::of(scene.stage(), client, &observer_of(client, namespace, POD).await?).await?;

        strangers(scene, &intake, &own).await?;

        // What its own observer says of the pod is merged, and what it may not say is refused for good.
        let receipt = intake.taken(&own, 1, &[drift(scene, POD, &uid(scene, POD).await?, "/own")]).await?;
        ensure!(receipt.merged == 1 && receipt.refused.is_empty(), "its own pod: {receipt:?}");
        refused(&intake.taken(&own, 2, &[admission(scene)]).await?, RefusedReason::WrongType)?;
        // The same batch once more adds nothing.
        intake.taken(&own, 1, &[drift(scene, POD, &uid(scene, POD).await?, "/own")]).await?;

        let others = observers(client).await?;
        let other = others.iter().find(|pod| node_of(pod) != Some(own.node.as_str()));
        if let Some(other) = other {
            let other = Reporter::of(scene.stage(), client, other).await?;
            let foreign = drift(scene, POD, &uid(scene, POD).await?, "/foreign");
            refused(&intake.taken(&other, 1, std::slice::from_ref(&foreign)).await?, RefusedReason::ForeignPod)?;
            // Under the other node's mark: what it may say is not even looked at.
            let answer = intake.post(Some(&own.token), &batch(&other.mark, 1, &[foreign])).await?;
            ensure!(answer.status == 403, "another node's mark: {answer:?}");
        } else {
            eprintln!("skipped in part: the cluster has one node");
        }

        never_seen(scene, &intake, &own).await?;

        let findings = scene.findings().await?;
        let seen: Vec<_> = findings
            .iter()
            .map(|finding| (finding.spec.subject.as_str(), count(finding), unverified(finding)))
            .collect();
        ensure!(seen == [("/own", 1, false)], "findings of the namespace: {seen:?}");
        Ok(())
    })
    .await;
}

/// Tokens that prove nothing.
async fn strangers(scene: &Scene<'_>, intake: &Intake, own: &Reporter) -> Told {
    let report = batch(&own.mark, 1, &[drift(scene, POD, &uid(scene, POD).await?, "/stranger")]);
    let accounts: Api<ServiceAccount> = Api::namespaced(scene.client().clone(), scene.namespace());
    let account = serde_json::from_value(json!({"metadata": {"name": "zastava-observer"}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    let stranger = token(scene.stage(), scene.namespace(), AUDIENCE, &[])?;
    let bound = own.bound.iter().map(String::as_str).collect::<Vec<_>>();
    let for_others = token(scene.stage(), "zastava-observer", "https://kubernetes.default.svc.cluster.local", &bound)?;
    let unbound = token(scene.stage(), "zastava-observer", AUDIENCE, &[])?;
    for (who, token, status) in [
        ("nobody", None, 401),
        ("an invented token", Some("a.b.c"), 401),
        ("an observer's account by name, in another namespace", Some(stranger.as_str()), 403),
        ("an observer's token for another audience", Some(for_others.as_str()), 401),
        ("an observer's token that is bound to no pod", Some(unbound.as_str()), 401),
    ] {
        let answer = intake.post(token, &report).await?;
        ensure!(answer.status == status, "{who}: expected {status}, got {answer:?}");
        ensure!(answer.body["title"].is_string(), "{who}: no word for a person: {answer:?}");
    }
    Ok(())
}

/// A pod that nobody ever saw: its finding is kept apart, and says that it is the node's word alone.
async fn never_seen(scene: &Scene<'_>, intake: &Intake, own: &Reporter) -> Told {
    let ghost = [drift(scene, "ghost", "00000000-0000-4000-8000-000000000000", "/ghost")];
    let kept: Api<RuntimeFinding> = Api::namespaced(scene.client().clone(), NAMESPACE);
    // What other scenarios left of namespaces that are gone may fill the room that there is for such findings.
    kept.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    let seq = Cell::new(3);
    until("a finding of a pod that was never seen is merged", Duration::from_secs(30), async || {
        let receipt = intake.taken(own, seq.replace(seq.get() + 1), &ghost).await;
        let merged = receipt.as_ref().is_ok_and(|receipt| receipt.merged == 1 && receipt.refused.is_empty());
        Ok(if merged { Seen::There(()) } else { Seen::NotYet(format!("{receipt:?}")) })
    })
    .await?;
    let workload = format!("{}/ghost", scene.namespace());
    let found = kept
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .find(|finding| finding.spec.workload.name == workload);
    let found = found.context("no finding is kept in Zastava's namespace")?;
    kept.delete(found.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await?;
    ensure!(unverified(&found), "it passes for verified: {:?}", found.status);
    Ok(())
}

fn refused(receipt: &BatchReceipt, reason: RefusedReason) -> Told {
    let only = receipt.refused.iter().all(|refused| refused.reason == reason && refused.count == 1);
    ensure!(receipt.merged == 0 && receipt.refused.len() == 1 && only, "expected {reason:?} alone, got {receipt:?}");
    Ok(())
}

fn count(finding: &RuntimeFinding) -> u64 {
    finding.status.as_ref().map_or(0, |status| status.count)
}

fn unverified(finding: &RuntimeFinding) -> bool {
    finding.status.as_ref().is_some_and(|status| status.unverified)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

async fn uid(scene: &Scene<'_>, pod: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(scene.client().clone(), scene.namespace());
    pods.get(pod).await?.metadata.uid.context("a pod without a UID")
}

/// That a program ran in the pod which is not the image's, as an observer tells it.
fn drift(scene: &Scene<'_>, pod: &str, uid: &str, path: &str) -> Value {
    json!({
        "type": "runtime", "schema": "zastava.runtime.event@v1", "eventId": format!("{:032x}", path.len()),
        "observedAt": jiff::Timestamp::now().to_string(), "bootId": "e2e", "monotonicNs": 1,
        "container": {
            "namespace": scene.namespace(), "pod": pod, "podUid": uid, "container": "main", "containerId": "0".repeat(64),
        },
        "severity": "High", "policies": [{"name": scene.namespace(), "uid": "u", "hash": "h"}],
        "detail": {
            "kind": "drift", "class": "New", "killed": "no", "wouldKill": false,
            "process": {"pid": 7, "ppid": 1, "uid": 0, "path": path},
            "file": {"path": path, "inode": 1, "device": 1, "links": 1, "size": 1},
        },
    })
}

/// That an image was refused, as only a webhook may tell it.
fn admission(scene: &Scene<'_>) -> Value {
    json!({
        "type": "admission", "schema": "zastava.admission.decision@v1", "eventId": "review/main",
        "decidedAt": jiff::Timestamp::now().to_string(), "namespace": scene.namespace(),
        "workload": {"kind": "Pod", "name": POD}, "container": "main", "image": "registry.example/app:1",
        "outcome": "Denied", "policy": {"name": scene.namespace(), "uid": "u", "hash": "h"},
        "requirement": "signatures[team]", "message": "no signature", "severity": "High",
    })
}

fn batch(reporter: &str, seq: u64, records: &[Value]) -> Value {
    json!({"mark": {"reporter": reporter, "seq": seq}, "records": records})
}

/// A token of the account zastava-observer of a namespace, as the kubelet would ask for it.
fn token(stage: &Stage, namespace: &str, audience: &str, bound: &[&str]) -> anyhow::Result<String> {
    let line = ["create", "token", "zastava-observer", "--namespace", namespace, "--audience", audience];
    Ok(stage.kubectl(&[&line, bound].concat())?.trim().to_owned())
}

/// Somebody with the token of an observer.
struct Reporter {
    node: String,
    mark: String,
    bound: Vec<String>,
    token: String,
}

impl Reporter {
    async fn of(stage: &Stage, client: &Client, observer: &Pod) -> anyhow::Result<Self> {
        let name = observer.metadata.name.as_deref().context("an observer without a name")?;
        let uid = observer.metadata.uid.as_deref().context("an observer without a UID")?;
        let node = node_of(observer).context("an observer on no node")?.to_owned();
        let nodes: Api<Node> = Api::all(client.clone());
        let node_uid = nodes.get(&node).await?.metadata.uid.context("a node without a UID")?;
        let bound = [
            "--bound-object-kind=Pod".to_owned(),
            format!("--bound-object-name={name}"),
            format!("--bound-object-uid={uid}"),
        ];
        let token = token(stage, "zastava-observer", AUDIENCE, &bound.each_ref().map(String::as_str))?;
        // A journal of its own: the observer's marks stay as they are.
        let mark = format!("node:{node_uid}/e2e-{}", jiff::Timestamp::now().as_nanosecond());
        Ok(Self { node, mark, bound: bound.into(), token })
    }
}

/// What came back.
#[derive(Debug)]
struct Answered {
    status: u16,
    body: Value,
}

/// The leader's intake, through the API server and the kubelet, with the certificate held against its ConfigMap.
struct Intake {
    client: reqwest::Client,
    port: u16,
    forward: Child,
    // Held open: kubectl prints a line for each connection, and ends when nobody could read it.
    _printed: BufReader<ChildStdout>,
}

impl Intake {
    async fn open(stage: &Stage, client: &Client) -> anyhow::Result<Self> {
        let configs: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let trust = configs.get("zastava-intake-ca").await?.data.unwrap_or_default();
        let trust = reqwest::Certificate::from_pem_bundle(trust.get("ca.crt").context("no ca.crt")?.as_bytes())?;
        let pod = format!("pod/{}", leader(client).await?);
        let mut forward = stage
            .tool("kubectl")
            .args(["port-forward", "--namespace", NAMESPACE, "--address", "127.0.0.1", &pod, ":9444"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        // "Forwarding from 127.0.0.1:43211 -> 9444"
        let mut line = String::new();
        let mut printed = BufReader::new(forward.stdout.take().context("no output")?);
        printed.read_line(&mut line)?;
        let port = line.split_whitespace().find_map(|word| word.strip_prefix("127.0.0.1:")?.parse().ok());
        let port = port.with_context(|| format!("kubectl port-forward said {line:?}"))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(trust)
            .resolve(HOST, SocketAddr::from(([127, 0, 0, 1], port)))
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { client, port, forward, _printed: printed })
    }

    async fn post(&self, token: Option<&str>, batch: &Value) -> anyhow::Result<Answered> {
        let request = self.client.post(format!("https://{HOST}:{}{REPORTS_PATH}", self.port)).json(batch);
        let answer = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth).send().await?;
        let status = answer.status().as_u16();
        Ok(Answered { status, body: answer.json().await.unwrap_or_default() })
    }

    /// Posts a batch that must have its receipt.
    async fn taken(&self, by: &Reporter, seq: u64, records: &[Value]) -> anyhow::Result<BatchReceipt> {
        let answer = self.post(Some(&by.token), &batch(&by.mark, seq, records)).await?;
        ensure!(answer.status == 200, "batch {seq} of {}: {answer:?}", by.node);
        Ok(serde_json::from_value(answer.body)?)
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.forward.kill();
        let _ = self.forward.wait();
    }
}
