//! Pods that somebody asks for all the time, dry, while a scenario breaks things: each refusal is remembered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use tokio::task::JoinHandle;
use zastava_e2e::scene::Scene;

use crate::ground::Told;

/// Between two pods.
const PAUSE: Duration = Duration::from_millis(50);
/// Refusals that are shown.
const SHOWN: usize = 5;

/// The stream; it ends when it is dropped.
pub struct Stream {
    flow: Arc<Mutex<Flow>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Flow {
    taken: u64,
    refused: Vec<String>,
}

impl Stream {
    /// Asks for pods of `image` from now on.
    pub fn start(scene: &Scene<'_>, image: &str) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::namespaced(scene.client().clone(), scene.namespace());
        let pod: Pod = serde_json::from_value(scene.pod("stream", image))?;
        let flow = Arc::new(Mutex::new(Flow::default()));
        let told = flow.clone();
        let began = Instant::now();
        let task = tokio::spawn(async move {
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            loop {
                let outcome = pods.create(&dry, &pod).await;
                {
                    let mut flow = told.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(_) => flow.taken += 1,
                        Err(error) => {
                            flow.refused.push(format!("after {:.1} s: {error}", began.elapsed().as_secs_f32()));
                        }
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Self { flow, task })
    }

    /// Nothing was refused since the last look, and something was asked for.
    pub fn unhurt(&self, by: &str) -> Told {
        let Flow { taken, refused } = std::mem::take(&mut *self.flow.lock().unwrap_or_else(PoisonError::into_inner));
        let shown: Vec<_> = refused.iter().take(SHOWN).map(String::as_str).collect();
        ensure!(refused.is_empty(), "{by}: {} pods refused, {taken} taken:\n  {}", refused.len(), shown.join("\n  "));
        ensure!(taken > 0, "{by}: no pod was asked for meanwhile");
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
