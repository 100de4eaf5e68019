//! The cells of `make bench-observer`, in interleaved rounds on a cluster of one node.

mod page;
mod rivals;
mod watched;

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use tokio::sync::mpsc;
use zastava_crds::finding::RuntimeFinding;

use self::page::{Figures, Load, Loss};
use self::rivals::Rivals;
use self::watched::Watched;
use super::paired::Stretch;
use crate::error::{At as _, Error, Result};
use crate::product::Product;
use crate::release;
use crate::scene::Scene;
use crate::stage::Stage;
use crate::workload::Workload;

/// Namespace, policy and pod.
const NAME: &str = "bench-observer";
/// Execs of one stretch.
const EXECS: usize = 400;
/// Containers beside which it is idle.
const CONTAINERS: usize = 100;
/// How long it is looked at when it is idle, and how long a load lasts.
const LOOK: Duration = Duration::from_secs(20);
const LOAD_SECONDS: u64 = 10;
/// Findings that are timed.
const FINDINGS: usize = 100;
/// How long a finding may take.
const SOON: Duration = Duration::from_secs(30);

/// What is executed.
const PROGRAMS: [(&str, &str); 2] = [("linked statically", "/usr/bin/nothing"), ("linked dynamically", "/srv/true")];

/// Who watches meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watcher {
    /// Nobody.
    Nobody,
    /// Nobody, once more: what the measurement itself tells apart.
    NobodyAgain,
    /// A listener of the proc connector.
    Connector,
    /// `perf record --buildid-mmap`.
    Perf,
    /// The observer.
    Observer,
    /// The observer, libraries too.
    Libraries,
}

/// Measures, and writes the page to a file.
pub async fn run(cluster: &str, rounds: usize, page: &Path) -> Result<()> {
    let stage = Stage::open(cluster, 1).await?;
    if stage.run().is_none() {
        return Err(Error::Invalid(
            "the benchmark reads the observer's cgroup: run it on a cluster of this machine".into(),
        ));
    }
    let rivals = Rivals::make()?;
    release::install(&stage, &Product::push(stage.registry())?).await?;
    let scene = Scene::at(&stage, NAME).await?;
    scene.remove_policy().await?;
    let image = Workload::push_for_timing(&stage, NAME)?;
    scene.forget(NAME).await?;
    scene.run(NAME, &image.reference().pinned()).await?;
    Watched::gone(scene.client()).await?;
    let mut figures = Figures::default();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        // The other way round every other time: whatever drifts while it is measured drifts for both.
        if round % 2 == 0 {
            alone(&scene, &rivals, &mut figures).await?;
            observed(&scene, &mut figures).await?;
        } else {
            observed(&scene, &mut figures).await?;
            alone(&scene, &rivals, &mut figures).await?;
        }
    }
    under_load(&scene, &mut figures).await?;
    idle(&scene, &image, &mut figures).await?;
    figures.journal = journal(&scene, &figures.pod)?;
    let text = figures.written(rounds);
    std::fs::write(page, &text).at(page)?;
    println!("{text}");
    scene.remove_policy().await
}

/// A stretch of execs in the pod.
fn stretch(scene: &Scene<'_>, program: &str) -> Result<Stretch> {
    let said = scene.exec(NAME, &["/usr/bin/execs", &EXECS.to_string(), program])?.stdout()?;
    let times: Vec<u64> = said.lines().filter_map(|line| line.parse().ok()).collect();
    if times.len() != EXECS {
        return Err(Error::Invalid(format!("{} of {EXECS} execs of {program} were timed", times.len())));
    }
    Stretch::of(times).ok_or_else(|| Error::Invalid("nothing was timed".into()))
}

fn stretches(scene: &Scene<'_>, watcher: Watcher, figures: &mut Figures) -> Result<()> {
    // Not always the same first: what the watcher's start left behind is the first one's.
    let first = figures.starts.len() % PROGRAMS.len();
    for (name, program) in PROGRAMS.iter().cycle().skip(first).take(PROGRAMS.len()) {
        figures.add(watcher, name, stretch(scene, program)?);
    }
    Ok(())
}

/// Without the observer: nobody, and others.
async fn alone(scene: &Scene<'_>, rivals: &Rivals, figures: &mut Figures) -> Result<()> {
    stretches(scene, Watcher::Nobody, figures)?;
    let connector = rivals.connector()?;
    stretches(scene, Watcher::Connector, figures)?;
    drop(connector);
    let perf = rivals.perf().await?;
    stretches(scene, Watcher::Perf, figures)?;
    drop(perf);
    stretches(scene, Watcher::NobodyAgain, figures)
}

/// With the observer, from its start to its end.
async fn observed(scene: &Scene<'_>, figures: &mut Figures) -> Result<()> {
    let libraries = |libraries| json!({"runtime": {"drift": {"action": "Audit"}, "libraries": libraries}});
    scene.policy(libraries("Off")).await?;
    let watched = Watched::there(scene.stage(), scene.client()).await?;
    figures.starts.extend(watched.start_to_first_event(scene.stage())?);
    let before = watched.cpu()?;
    stretches(scene, Watcher::Observer, figures)?;
    figures.cpu.push(spent(&watched, before)?);
    scene.policy(libraries("Audit")).await?;
    watched.looks_at_libraries(scene.stage(), || scene.exec(NAME, &["/srv/true"]).map(drop)).await?;
    let before = watched.cpu()?;
    stretches(scene, Watcher::Libraries, figures)?;
    figures.cpu_libraries.push(spent(&watched, before)?);
    scene.remove_policy().await?;
    Watched::gone(scene.client()).await
}

/// Processor time for a thousand execs, in milliseconds: of those in the pod, whatever else ran meanwhile.
#[allow(clippy::cast_precision_loss, reason = "a few hundred execs")]
fn spent(watched: &Watched, before: Duration) -> Result<f64> {
    let spent = watched.cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e3 / ((EXECS * PROGRAMS.len()) as f64 / 1e3))
}

/// Loss at several rates, and how soon a finding is there.
async fn under_load(scene: &Scene<'_>, figures: &mut Figures) -> Result<()> {
    scene.policy(json!({"runtime": {"drift": {"action": "Audit"}}})).await?;
    let watched = Watched::there(scene.stage(), scene.client()).await?;
    figures.pod.clone_from(&watched.pod);
    for load in [Load::Image, Load::Drift] {
        let program = match load {
            Load::Image => "/usr/bin/nothing",
            Load::Drift => "/tmp/dropped",
        };
        if load == Load::Drift {
            scene.shell(NAME, &format!("cp /usr/bin/nothing {program} && echo >>{program}"))?.stdout()?;
        }
        for rate in [Some(100), Some(1000), None] {
            // As fast as it can: one for each processor, for about as long.
            let line = match rate {
                Some(rate) => format!("/usr/bin/execs {} {program} {rate}", rate * LOAD_SECONDS),
                None => format!("/usr/bin/execs 15000 {program} 0 & /usr/bin/execs 15000 {program} 0; wait"),
            };
            let before = watched.balanced(scene.stage()).await?;
            let (cpu, began) = (watched.cpu()?, Instant::now());
            scene.shell(NAME, &line)?.stdout()?;
            let took = began.elapsed();
            let after = watched.balanced(scene.stage()).await?;
            let cpu = watched.cpu()?.saturating_sub(cpu);
            figures.losses.push(Loss::between(load, rate, took, cpu, &before, &after));
        }
    }
    figures.findings = findings(scene).await?;
    Ok(())
}

/// From just before the exec of a dropped program to its finding as a watcher of the API server sees it.
async fn findings(scene: &Scene<'_>) -> Result<Vec<f64>> {
    let api = Api::<RuntimeFinding>::namespaced(scene.client().clone(), scene.namespace());
    let (tell, mut told) = mpsc::unbounded_channel();
    // A task of its own: while a shell in the pod is waited for, nobody would look at the clock.
    let watching = tokio::spawn(async move {
        let mut watch = watcher(api, watcher::Config::default()).default_backoff().touched_objects().boxed();
        while let Some(finding) = watch.next().await {
            let Ok(finding) = finding else { continue };
            if finding.status.is_some() {
                let _ = tell.send((finding.spec.subject, jiff::Timestamp::now().as_nanosecond()));
            }
        }
    });
    let mut took = Vec::new();
    // Findings of an earlier run may be there.
    let run = jiff::Timestamp::now().as_second();
    for n in 0..FINDINGS {
        let path = format!("/tmp/finding-{run}-{n}");
        let line = format!("cp /usr/bin/nothing {path} && echo {path} >>{path} && exec /usr/bin/execs at {path}");
        let said = scene.shell(NAME, &line)?.stdout()?;
        let executed: i128 =
            said.trim().parse().map_err(|_| Error::Invalid(format!("{path} was executed at {said:?}")))?;
        let seen = tokio::time::timeout(SOON, async {
            while let Some((subject, at)) = told.recv().await {
                if subject == path {
                    return Ok(at - executed);
                }
            }
            Err(Error::Invalid("the watch ended".into()))
        });
        let seen = seen.await.map_err(|_| Error::Invalid(format!("no finding of {path} within {SOON:?}")))??;
        #[allow(clippy::cast_precision_loss, reason = "some seconds in nanoseconds")]
        took.push(seen as f64 / 1e6);
    }
    watching.abort();
    Ok(took)
}

/// Beside many containers in which nothing happens.
async fn idle(scene: &Scene<'_>, image: &Workload<'_>, figures: &mut Figures) -> Result<()> {
    let mut pod = scene.pod("many", &image.reference().pinned());
    let one = |n: usize| json!({"name": format!("c{n}"), "image": image.reference().pinned()});
    pod["spec"]["containers"] = (0..CONTAINERS).map(one).collect();
    scene.forget("many").await?;
    scene.create(pod).await?.taken()?;
    scene.running_within("many", Duration::from_mins(5)).await?;
    let watched = Watched::there(scene.stage(), scene.client()).await?;
    watched.balanced(scene.stage()).await?;
    let (cpu, began) = (watched.cpu()?, Instant::now());
    tokio::time::sleep(LOOK).await;
    figures.idle_cpu = watched.cpu()?.saturating_sub(cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    figures.memory = Some(watched.memory()?);
    scene.forget("many").await
}

/// What a journal on the node's disk does.
fn journal(scene: &Scene<'_>, pod: &str) -> Result<serde_json::Value> {
    let line = ["exec", "-n", watched::NAMESPACE, pod, "--", "/zastava-observer", "journal", "measure"];
    let folder = "/var/lib/zastava/measured";
    Ok(serde_json::from_str(&scene.stage().kubectl(&[&line[..], &[folder]].concat())?)?)
}
