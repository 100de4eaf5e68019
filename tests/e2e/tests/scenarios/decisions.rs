//! What a decision rests on beside a proof: scope, exceptions, and images that no policy selects.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use zastava_crds::finding::FindingType;
use zastava_e2e::{
    release::NAMESPACE,
    scene::{Answer, Scene},
    wait::{Seen, until},
    workload::Workload,
};

use crate::ground::{alone, scenario};

const TEAM: &str = "team";
/// An image that is never pulled: its pods need not run.
const ELSEWHERE: &str = "elsewhere.example/tools/app:1";
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_image_that_no_policy_selects_is_refused_where_a_policy_says_so() {
    scenario("unmatched", async |scene| {
        let app = Workload::push(scene.stage(), &format!("{}-app", scene.namespace()), "1", "app")?;
        let repository = app.reference().repository.clone();
        let mut admission = scene.signed_by(TEAM)?;
        admission["unmatched"] = json!("Deny");
        scene.policy(json!({"mode": "Enforce", "match": {"images": [repository]}, "admission": admission})).await?;
        let message = scene.create(scene.pod("elsewhere", ELSEWHERE)).await?.refused()?;
        for part in [ELSEWHERE, "unmatched: Deny", "no policy in force selects elsewhere.example/tools/app", "next:"] {
            ensure!(message.contains(part), "the refusal does not say {part}: {message}");
        }
        let unsigned = scene.create(scene.pod("app", &app.reference().tagged())).await?.refused()?;
        ensure!(unsigned.contains("no signature"), "{unsigned}");
        scene.finding("the image that no policy selects", SOON, |f| f.spec.subject.contains("unmatched: Deny")).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_exception_is_recorded_when_it_is_used_and_ends_by_itself() {
    scenario("exception", async |scene| {
        let app = Workload::push(scene.stage(), &format!("{}-app", scene.namespace()), "1", "app")?;
        let expires = Timestamp::now() + Duration::from_secs(40);
        let exception = json!({"name": "known", "reason": "agreed in the scenario", "expires": expires.to_string(),
            "match": {"namespaces": [scene.namespace()]}});
        scene
            .policy(json!({"mode": "Enforce", "admission": scene.signed_by(TEAM)?, "exceptions": [exception]}))
            .await?;
        let unsigned = app.reference().pinned();
        scene.create(scene.pod("app", &unsigned)).await?.taken().context("the exception holds")?;
        let used = |f: &zastava_crds::finding::RuntimeFinding| f.spec.type_ == FindingType::Exception;
        let finding = scene.finding("the use of the exception", SOON, used).await?;
        let status = finding.status.context("no status")?;
        let message = status.evidence.unwrap_or_default().message;
        ensure!(status.count == 1, "counted {} times", status.count);
        for part in ["known", "agreed in the scenario", "until"] {
            ensure!(message.contains(part), "the finding does not say {part}: {message}");
        }
        until("the exception has ended", Duration::from_mins(1), async || {
            Ok(match scene.create(scene.pod("later", &unsigned)).await? {
                Answer::Refused(message) => Seen::There(message),
                Answer::Taken(_) => {
                    scene.forget("later").await?;
                    Seen::NotYet("let in".into())
                }
            })
        })
        .await?;
        ensure!(Timestamp::now() >= expires, "it ended early");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_request_out_of_scope_never_arrives() {
    alone("scope", async |scene| {
        let app = Workload::push(scene.stage(), &format!("{}-app", scene.namespace()), "1", "app")?;
        let repository = app.reference().repository.clone();
        scene
            .policy(json!({"mode": "Enforce", "match": {"images": [repository]}, "admission": scene.signed_by(TEAM)?}))
            .await?;
        let asked = async || answered(scene).await;
        let in_scope = until("the policy is asked about its image", SOON, async || {
            Ok(match scene.create(scene.pod("app", &app.reference().tagged())).await? {
                Answer::Refused(_) => Seen::There(()),
                Answer::Taken(_) => {
                    scene.forget("app").await?;
                    Seen::NotYet("let in".into())
                }
            })
        });
        let before = asked().await?;
        in_scope.await?;
        let between = asked().await?;
        ensure!(between > before, "the webhook does not count: {before} before, {between} after");
        // The most that a pod may hold, so that the conditions' cost is seen as well.
        let pinned = elsewhere(&app);
        let mut many = scene.pod("many", ELSEWHERE);
        let containers: Vec<_> = (0..256).map(|i| json!({"name": format!("c{i}"), "image": pinned})).collect();
        many["spec"]["containers"] = json!(containers);
        for pod in [scene.pod("one", ELSEWHERE), many] {
            scene.create(pod).await?.taken().context("out of scope")?;
        }
        let after = asked().await?;
        ensure!(after == between, "asked {} times about images out of scope", after - between);
        Ok(())
    })
    .await;
}

/// A skipped condition would let in what it is about: its cost has to stay within bounds whatever a pod is padded with.
#[tokio::test]
async fn an_image_in_scope_is_found_among_any_number_of_others() {
    scenario("padded", async |scene| {
        let app = Workload::push(scene.stage(), &format!("{}-app", scene.namespace()), "1", "app")?;
        let (repository, unsigned) = (app.reference().repository.clone(), app.reference().pinned());
        let mut admission = scene.signed_by(TEAM)?;
        admission["failurePolicy"] = json!("Ignore");
        scene.policy(json!({"mode": "Enforce", "match": {"images": [repository]}, "admission": admission})).await?;
        until("the policy is asked about its image", SOON, async || {
            Ok(match scene.create(scene.pod("app", &unsigned)).await? {
                Answer::Refused(_) => Seen::There(()),
                Answer::Taken(_) => {
                    scene.forget("app").await?;
                    Seen::NotYet("let in".into())
                }
            })
        })
        .await?;
        let padding = elsewhere(&app);
        let list = |prefix: &str, image: &Value| {
            let entry = |i: usize| json!({"name": format!("{prefix}{i}"), "image": image});
            (0..250).map(entry).collect::<Vec<_>>()
        };
        let mut padded = scene.pod("padded", &unsigned);
        let spec = &mut padded["spec"];
        let containers = spec["containers"].as_array_mut().context("a pod has containers")?;
        containers.extend(list("c", &json!(padding)));
        spec["initContainers"] = json!(list("i", &json!(padding)));
        spec["volumes"] = json!(list("v", &json!({"reference": padding})));
        let message = scene.create(padded).await?.refused().context("the forbidden image is let in")?;
        ensure!(message.contains("at most 256"), "{message}");
        Ok(())
    })
    .await;
}

/// A reference that no policy selects, as long as one may be that the API server looks at.
fn elsewhere(app: &Workload) -> String {
    let digest = app.reference().digest.clone();
    let host = ELSEWHERE.split('/').next().unwrap_or_default();
    let path = "a".repeat(255 - host.len() - "/@".len() - digest.len());
    format!("{host}/{path}@{digest}")
}

/// How many reviews the webhook's replicas have answered, dry runs aside.
async fn answered(scene: &Scene<'_>) -> anyhow::Result<u64> {
    let pods: Api<Pod> = Api::namespaced(scene.client().clone(), NAMESPACE);
    let labels = ListParams::default().labels("app.kubernetes.io/name=zastava,app.kubernetes.io/component=webhook");
    let mut sum = 0;
    for pod in pods.list(&labels).await?.items {
        let name = pod.metadata.name.context("a pod without a name")?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/metrics");
        let metrics = scene.stage().kubectl(&["get", "--raw", &path])?;
        for line in metrics.lines().filter(|line| line.starts_with("zastava_admission_latency_seconds_count")) {
            let count = line.rsplit(' ').next().context("no value")?;
            sum += count.parse::<u64>().with_context(|| line.to_owned())?;
        }
    }
    Ok(sum)
}
