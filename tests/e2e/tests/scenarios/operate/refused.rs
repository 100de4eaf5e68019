//! Policies that can't be: refused by the API server, or stalled in so many words.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use zastava_crds::policy::ZastavaPolicy;
use zastava_e2e::wait::{Seen, until};

use crate::ground::scenario;

/// The table that the crate of the CRDs holds its rules against, in process.
const INVALID: &str = include_str!("../../../../../crds/tests/invalid_policies.yaml");

#[derive(Deserialize)]
struct Case {
    name: String,
    by: String,
    message: String,
    spec: Value,
}

#[tokio::test]
async fn the_api_server_refuses_each_invalid_policy_with_the_message_of_the_rule() {
    scenario("invalid", async |scene| {
        let cases: Vec<Case> = serde_saphyr::from_str(INVALID)?;
        ensure!(!cases.is_empty(), "the table is empty");
        let policies: Api<DynamicObject> =
            Api::all_with(scene.client().clone(), &ApiResource::erase::<ZastavaPolicy>(&()));
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let mut wrong = Vec::new();
        for Case { name, by, message, spec } in cases {
            let policy = json!({
                "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
                "metadata": {"name": scene.namespace()}, "spec": spec,
            });
            let said = match policies.create(&dry, &serde_json::from_value(policy.clone())?).await {
                Ok(_) => {
                    wrong.push(format!("{name}: taken"));
                    continue;
                }
                Err(kube::Error::Api(status)) if status.code == 422 => status.message.clone(),
                Err(error) => return Err(error).context(name),
            };
            if !said.contains(&message) {
                wrong.push(format!("{name}: expected \"{message}\", got {said}"));
            }
            // What a rule says in process is what the API server says.
            if by == "rule" {
                let here = serde_json::from_value::<ZastavaPolicy>(policy)?
                    .validate_cel()
                    .err()
                    .context("valid in process")?;
                let missing = here.as_slice().iter().filter(|error| !said.contains(&error.message));
                wrong.extend(missing.map(|error| format!("{name}: in process \"{}\", got {said}", error.message)));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_field_that_is_not_supported_stalls_the_policy_by_its_name() {
    scenario("stalled", async |scene| {
        let policies: Api<ZastavaPolicy> = Api::all(scene.client().clone());
        scene.apply_policy(json!({"runtime": {}, "scan": {"on": ["Posture"]}})).await?;
        until("the policy is stalled and says why", Duration::from_secs(30), async || {
            let policy = policies.get(scene.namespace()).await?;
            let conditions = policy.status.map(|status| status.conditions).unwrap_or_default();
            let is = |type_: &str, status: &str, reason: &str| {
                let found =
                    conditions.iter().find(|one| one.type_ == type_ && one.status == status && one.reason == reason);
                found.map(|one| one.message.clone())
            };
            let named =
                is("Stalled", "True", "NotSupported").is_some_and(|message| message.contains("spec.scan.on: Posture"));
            let unready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "False");
            Ok(if named && unready { Seen::There(()) } else { Seen::NotYet(serde_json::to_string(&conditions)?) })
        })
        .await?;
        // Without these fields it comes into force, and nothing of it stays behind.
        scene.policy(json!({"runtime": {}})).await?;
        let status = policies.get(scene.namespace()).await?.status.context("no status")?;
        ensure!(status.conditions.iter().all(|one| one.type_ != "Stalled"), "still stalled: {:?}", status.conditions);
        Ok(())
    })
    .await;
}
