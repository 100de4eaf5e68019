//! From `helm install` to a policy that is in force.

use serde_json::json;

use crate::ground::scenario;

#[tokio::test]
async fn a_policy_becomes_ready() {
    scenario("ready", async |scene| {
        scene.policy(json!({"mode": "Audit", "runtime": {"drift": {"action": "Audit"}}})).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_with_admission_becomes_ready() {
    scenario("ready-admission", async |scene| {
        scene.policy(json!({"mode": "Enforce", "admission": scene.signed_by("team")?})).await?;
        Ok(())
    })
    .await;
}
