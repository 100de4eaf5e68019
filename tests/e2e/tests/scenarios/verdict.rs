//! The backend's word as a condition of admission, with a stand-in for the backend on this machine.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use zastava_crds::policy::ZastavaPolicy;
use zastava_e2e::release::{self, NAMESPACE};
use zastava_e2e::scanner::{Client, Scanner};
use zastava_e2e::scene::{Answer, Scene};
use zastava_e2e::signer::Form;
use zastava_e2e::wait::{Seen, until};
use zastava_e2e::workload::Workload;

use crate::ground::{Told, alone};

const TEAM: &str = "team";
const SECRET: &str = "zastava-e2e-backend";
/// A word is fresh for a second here, and a pause after failures lasts half a minute at most.
const SOON: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_backend_decides_what_may_start_today() {
    alone("verdict", async |scene| {
        let Some(run) = scene.stage().run() else {
            eprintln!("skipped: pods of this cluster may not reach this machine");
            return Ok(());
        };
        scene.apply_policy(asking(scene, &json!({"required": true}))?).await?;
        stalled(scene).await?;

        let client = Client { tenant: "acme".into(), project: "shop".into(), token: "the-token-of-e2e".into() };
        let scanner = Scanner::start(run.layout().host().into(), client.clone()).await?;
        let secrets: Api<Secret> = Api::namespaced(scene.client().clone(), NAMESPACE);
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
            "stringData": {"token": client.token}});
        secrets.patch(SECRET, &PatchParams::apply("zastava-e2e"), &Patch::Apply(&secret)).await?;
        let before = release::given(scene.stage())?;
        release::install_with(scene.stage(), &with_backend(&before, &client, &scanner)).await?;
        let told = decides(scene, &scanner).await;
        release::install_with(scene.stage(), &before).await.context("the backend is taken out again")?;
        secrets.delete(SECRET, &DeleteParams::default()).await?;
        told
    })
    .await;
}

fn asking(scene: &Scene<'_>, verdict: &Value) -> anyhow::Result<Value> {
    let mut admission = scene.signed_by(TEAM)?;
    admission["verdict"] = verdict.clone();
    Ok(json!({"mode": "Enforce", "admission": admission}))
}

/// Without a backend the policy says what to set.
async fn stalled(scene: &Scene<'_>) -> Told {
    let policies: Api<ZastavaPolicy> = Api::all(scene.client().clone());
    let message = until("the policy is Stalled", Duration::from_mins(1), async || {
        let status = policies.get(scene.namespace()).await?.status.unwrap_or_default();
        let stalled = status.conditions.iter().find(|one| one.type_ == "Stalled" && one.reason == "NotConfigured");
        Ok(match stalled {
            Some(condition) => Seen::There(condition.message.clone()),
            None => Seen::NotYet(serde_json::to_string(&status.conditions)?),
        })
    })
    .await?;
    ensure!(message.contains("backend.url"), "{message}");
    Ok(())
}

fn with_backend(before: &Value, client: &Client, scanner: &Scanner) -> Value {
    let mut values = before.clone();
    values["tenant"] = json!(client.tenant);
    values["backend"] = json!({
        "url": scanner.url(), "project": client.project, "ca": scanner.ca(),
        "auth": {"tokenSecret": {"name": SECRET, "key": "token"}, "certificateSecret": ""},
    });
    let port = scanner.url().rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    values["networkPolicy"]["backend"]["ports"] = json!([port]);
    // Each replica has its own memory of last words; one is asked here.
    values["admission"]["replicas"] = json!(1);
    values
}

async fn decides(scene: &Scene<'_>, scanner: &Scanner) -> Told {
    let image = |name: &str| -> anyhow::Result<(String, String)> {
        let image = Workload::push(scene.stage(), &format!("{}-{name}", scene.namespace()), "1", name)?;
        let image = image.signed_by(TEAM, Form::Bundle)?;
        Ok((image.reference().tagged(), image.reference().digest.clone()))
    };
    let (good, bad, new) = (image("good")?, image("bad")?, image("new")?);
    scanner.says(&good.1, "pass", "");
    scanner.says(&bad.1, "fail", "2 critical vulnerabilities");
    scene.policy(asking(scene, &json!({"required": true}))?).await?;

    // The replica of before may still answer for a moment.
    takes(scene, "an approved image starts", &good.0).await?;
    scene.run("good", &good.0).await?;
    ensure!(scanner.asked(&good.1) > 0, "it started without the backend's word");
    let message = scene.create(scene.pod("bad", &bad.0)).await?.refused()?;
    for part in ["verdict", "2 critical vulnerabilities", "e2e-1", "https://scanner.test/"] {
        ensure!(message.contains(part), "the refusal does not say {part}: {message}");
    }
    let message = scene.create(scene.pod("new", &new.0)).await?.refused()?;
    ensure!(message.contains("the backend says unknown"), "{message}");

    // Its proof is remembered, its word is not.
    scanner.says(&good.1, "fail", "found this morning");
    refuses(scene, "an image that is no longer approved", &good.0, "found this morning").await?;
    scanner.says(&good.1, "pass", "");
    takes(scene, "an image that is approved again starts", &good.0).await?;

    down(scene, scanner, &good.0, &new.0).await?;

    scanner.answers_for(Some("rival"));
    scene.policy(asking(scene, &json!({"required": true, "onUnavailable": "Allow"}))?).await?;
    refuses(scene, "an answer for another tenant", &good.0, "for tenant \"rival\"").await?;
    scanner.answers_for(None);
    takes(scene, "it comes back by itself", &good.0).await?;
    ensure!(scanner.broken().is_empty(), "the contract was broken: {:?}", scanner.broken());
    Ok(())
}

/// What becomes of images while the backend is down, by what the policy says.
async fn down(scene: &Scene<'_>, scanner: &Scanner, known: &str, never_approved: &str) -> Told {
    scanner.down(true);
    refuses(scene, "onUnavailable Deny", known, "the backend can't be asked").await?;
    scene.policy(asking(scene, &json!({"required": true, "onUnavailable": "LastKnown", "maxAge": "10m"}))?).await?;
    takes(scene, "onUnavailable LastKnown, approved before", known).await?;
    refuses(scene, "onUnavailable LastKnown, never approved", never_approved, "the backend can't be asked").await?;
    scene.policy(asking(scene, &json!({"required": true, "onUnavailable": "Allow"}))?).await?;
    takes(scene, "onUnavailable Allow", never_approved).await?;
    ensure!(scanner.turned_away() > 0, "the backend was not asked while it was down");
    scanner.down(false);
    scene.policy(asking(scene, &json!({"required": true}))?).await?;
    takes(scene, "the backend is asked again by itself", known).await
}

/// Whatever a replica still holds for a moment: at last a pod is taken.
async fn takes(scene: &Scene<'_>, what: &str, image: &str) -> Told {
    until(what, SOON, async || {
        Ok(match scene.create(scene.pod("probe", image)).await? {
            Answer::Taken(_) => {
                scene.forget("probe").await?;
                Seen::There(())
            }
            Answer::Refused(message) => Seen::NotYet(message),
        })
    })
    .await?;
    Ok(())
}

/// At last a pod is refused, and the refusal says so.
async fn refuses(scene: &Scene<'_>, what: &str, image: &str, says: &str) -> Told {
    until(&format!("{what} is refused"), SOON, async || {
        Ok(match scene.create(scene.pod("probe", image)).await? {
            Answer::Refused(message) if message.contains(says) => Seen::There(()),
            Answer::Refused(message) => Seen::NotYet(message),
            Answer::Taken(_) => {
                scene.forget("probe").await?;
                Seen::NotYet("taken".into())
            }
        })
    })
    .await?;
    Ok(())
}
