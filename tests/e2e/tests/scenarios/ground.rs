//! The shared cluster, and how a scenario gets its place on it.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{OnceCell, RwLock};
use zastava_e2e::product::Product;
use zastava_e2e::release;
use zastava_e2e::scene::Scene;
use zastava_e2e::stage::Stage;

/// What a scenario returns.
pub type Told = anyhow::Result<()>;

/// The cluster that is brought up when none is named.
const CLUSTER: &str = "zastava-test";
const NODES: u8 = 2;
/// A scenario that takes longer hangs.
const LONGEST: Duration = Duration::from_mins(5);

/// Scenarios run beside each other, but those that break what all of them need have it for themselves.
static TURN: RwLock<()> = RwLock::const_new(());

/// The cluster with Zastava of this tree installed; the first to ask brings it up.
async fn ground() -> &'static Stage {
    static GROUND: OnceCell<Result<Stage, String>> = OnceCell::const_new();
    let ready = GROUND.get_or_init(async || prepare().await.map_err(|error| format!("{error:#}"))).await;
    match ready {
        Ok(stage) => stage,
        Err(why) => panic!("no scenario can run: {why}"),
    }
}

async fn prepare() -> anyhow::Result<Stage> {
    let name = std::env::var("ZASTAVA_CLUSTER").unwrap_or_else(|_| CLUSTER.into());
    let stage = Stage::open(&name, NODES).await?;
    let product = Product::push(stage.registry())?;
    release::install(&stage, &product).await?;
    Ok(stage)
}

/// Plays a scenario in a namespace of its own, beside others.
pub async fn scenario(name: &str, act: impl AsyncFnOnce(&Scene<'_>) -> Told) {
    let stage = ground().await;
    let _turn = TURN.read().await;
    play(stage, name, act).await;
}

/// Plays a scenario that breaks what others need, while no other runs.
pub async fn alone(name: &str, act: impl AsyncFnOnce(&Scene<'_>) -> Told) {
    let stage = ground().await;
    let _turn = TURN.write().await;
    play(stage, name, act).await;
}

async fn play(stage: &Stage, name: &str, act: impl AsyncFnOnce(&Scene<'_>) -> Told) {
    let scene = Scene::open(stage, name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    // The namespace goes whatever the scenario came to, or its policy would live on among the others'.
    let told = AssertUnwindSafe(tokio::time::timeout(LONGEST, act(&scene))).catch_unwind().await;
    let failed = !matches!(told, Ok(Ok(Ok(()))));
    if failed {
        eprintln!("{name}: state at the failure\n{}", state(&scene).await);
    }
    let closed = scene.close().await;
    match told {
        Err(panic) => resume_unwind(panic),
        Ok(Err(_)) => panic!("{name}: not done within {LONGEST:?}"),
        Ok(Ok(Err(error))) => panic!("{name}: {error:#}"),
        Ok(Ok(Ok(()))) => closed.unwrap_or_else(|error| panic!("{name}: {error}")),
    }
}

/// What a person would look at after a failure.
async fn state(scene: &Scene<'_>) -> String {
    let shown = |outcome: Result<String, zastava_e2e::error::Error>| outcome.unwrap_or_else(|error| error.to_string());
    let kubectl = |line: &[&str]| shown(scene.stage().kubectl(line));
    let namespace = scene.namespace();
    let mut text = format!("pods of {namespace}:{}\n", shown(release::pods(scene.client(), namespace).await));
    for (what, line) in [
        ("policy", &["get", "zp", namespace, "-o", "yaml"][..]),
        ("findings", &["get", "rf", "-n", namespace, "-o", "yaml"]),
        ("events", &["get", "events", "-n", namespace]),
        ("operator", &["logs", "-n", release::NAMESPACE, "-l", "app.kubernetes.io/component=operator", "--tail=20"]),
        ("observers", &["logs", "-n", "zastava-observer", "-l", "app.kubernetes.io/component=observer", "--tail=20"]),
        ("webhook", &["logs", "-n", release::NAMESPACE, "-l", "app.kubernetes.io/component=webhook", "--tail=20"]),
    ] {
        add(&mut text, what, &kubectl(line));
    }
    text
}

fn add(text: &mut String, what: impl Display, content: &str) {
    use std::fmt::Write as _;
    let _ = write!(text, "--- {what}\n{content}\n");
}
