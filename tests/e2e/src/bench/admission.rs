//! The cells of `make bench-admission`, in interleaved rounds.

use std::path::Path;
use std::time::{Duration, Instant};

use super::client::{Asks, load};
use super::figures::{Cell, Round, table};
use super::process::{Memory, Process};
use super::registry::Kind;
use super::setting::Setting;
use crate::error::{At as _, Error, Result};
use crate::stage::Stage;

/// Latencies of the registry.
const LATENCIES: [u64; 3] = [0, 20, 100];

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Repetitions of every cell.
    pub rounds: usize,
    /// How long the load on memory lasts.
    pub soak: Duration,
}

/// Measures, and writes the page to a file.
pub async fn run(cluster: &str, extent: Extent, page: &Path) -> Result<()> {
    let stage = Stage::open(cluster, 1).await?;
    let Some(own) = stage.run() else {
        return Err(Error::Invalid(
            "the benchmark reads the webhook's process: run it on a cluster of this machine".into(),
        ));
    };
    let setting = Setting::make(&stage, own.layout().host()).await?;
    let idle = setting.webhook.memory()?;
    let mut cells: Vec<Cell> = Vec::new();
    for round in 0..extent.rounds {
        eprintln!("round {} of {}", round + 1, extent.rounds);
        for (name, measured) in all(&setting).await? {
            match cells.iter_mut().find(|cell| cell.name == name) {
                Some(cell) => cell.rounds.push(measured),
                None => cells.push(Cell { name, rounds: vec![measured] }),
            }
        }
    }
    let after = setting.webhook.memory()?;
    let soaked = soak(&setting, extent.soak).await?;
    let wrong: u64 = cells.iter().flat_map(|cell| &cell.rounds).map(|round| round.wrong).sum();
    if wrong > 0 {
        return Err(Error::Invalid(format!("{wrong} answers were wrong, so nothing is written:\n{}", table(&cells))));
    }
    let text = written(extent, &cells, idle, after, &soaked);
    std::fs::write(page, &text).at(page)?;
    println!("{text}");
    Ok(())
}

/// Every cell once.
async fn all(setting: &Setting) -> Result<Vec<(String, Round)>> {
    let mut done = Vec::new();
    let warm = vec![setting.registry.image(Kind::Signed)?];
    let times = |count: usize| vec![warm.clone(); count];
    measured(setting, &setting.direct, &times(1), 1, true).await?;
    for (clients, direct, through) in [(1, 2_000, 400), (8, 8_000, 1_600)] {
        done.push((
            format!("warm, direct, {clients} at a time"),
            measured(setting, &setting.direct, &times(direct), clients, true).await?,
        ));
        done.push((
            format!("warm, through the API server, {clients} at a time"),
            measured(setting, &setting.selected, &times(through), clients, true).await?,
        ));
        done.push((
            format!("no webhook, through the API server, {clients} at a time"),
            measured(setting, &setting.elsewhere, &times(through), clients, true).await?,
        ));
    }
    for latency in LATENCIES {
        setting.registry.latency(Duration::from_millis(latency));
        let at = format!("registry {latency} ms");
        let fewer = if latency == 0 { 1 } else { 4 };
        let cold = distinct(setting, Kind::Signed, 200 / fewer, 1)?;
        done.push((format!("cold, {at}"), measured(setting, &setting.direct, &cold, 1, true).await?));
        let legacy = distinct(setting, Kind::Legacy, 100 / fewer, 1)?;
        done.push((
            format!("cold, signatures in tags, {at}"),
            measured(setting, &setting.direct, &legacy, 1, true).await?,
        ));
        let eight =
            (0..40 / fewer).map(|_| Ok(vec![setting.registry.image(Kind::Signed)?; 8])).collect::<Result<Vec<_>>>()?;
        done.push((
            format!("cold, 8 containers of one image, {at}"),
            measured(setting, &setting.direct, &eight, 1, true).await?,
        ));
        let twenty = distinct(setting, Kind::Signed, 20 / fewer, 20)?;
        done.push((
            format!("cold, 20 different images, {at}"),
            measured(setting, &setting.direct, &twenty, 1, true).await?,
        ));
    }
    setting.registry.latency(Duration::ZERO);
    let herd = vec![vec![setting.registry.image(Kind::Signed)?]; 100];
    done.push(("herd of 100 equal cold requests".into(), measured(setting, &setting.direct, &herd, 100, true).await?));
    let cold = distinct(setting, Kind::Signed, 400, 1)?;
    done.push(("cold, 8 at a time".into(), measured(setting, &setting.direct, &cold, 8, true).await?));
    let mut hostile = Vec::new();
    for kind in [Kind::Unsigned, Kind::OtherKey, Kind::Garbage, Kind::Endless] {
        let count = if kind == Kind::Endless { 4 } else { 40 };
        hostile.extend(distinct(setting, kind, count, 1)?);
    }
    hostile.extend(vec![vec![format!("{}/bench/missing@sha256:{}", setting.registry.host, "0".repeat(64))]; 40]);
    done.push((
        "hostile mix, 8 at a time, all refused".into(),
        measured(setting, &setting.direct, &hostile, 8, false).await?,
    ));
    Ok(done)
}

/// Pods of images that nobody asked for yet.
fn distinct(setting: &Setting, kind: Kind, pods: usize, images: usize) -> Result<Vec<Vec<String>>> {
    (0..pods).map(|_| (0..images).map(|_| setting.registry.image(kind)).collect()).collect()
}

async fn measured(
    setting: &Setting,
    asks: &impl Asks,
    requests: &[Vec<String>],
    clients: usize,
    expected: bool,
) -> Result<Round> {
    let (cpu, asked, began) = (setting.webhook.cpu()?, setting.registry.asked(), Instant::now());
    let answers = load(asks, requests, clients, expected).await?;
    Ok(Round {
        latencies: answers.latencies,
        elapsed: began.elapsed(),
        cpu: setting.webhook.cpu()?.saturating_sub(cpu),
        registry: setting.registry.asked() - asked,
        wrong: answers.wrong,
        resident: setting.webhook.memory()?.resident,
    })
}

/// Memory under load: cold and warm requests for as long as asked, looked at ten times.
async fn soak(setting: &Setting, long: Duration) -> Result<Vec<(u64, Memory)>> {
    let (began, mut seen, mut requests) = (Instant::now(), Vec::new(), 0);
    let process: Process = setting.webhook;
    for tenth in 1..=10 {
        while began.elapsed() < long * tenth / 10 {
            let mut some = distinct(setting, Kind::Signed, 20, 1)?;
            some.extend(some.clone().into_iter().cycle().take(400).collect::<Vec<_>>());
            requests += u64::try_from(some.len()).unwrap_or(0);
            let wrong = load(&setting.direct, &some, 8, true).await?.wrong;
            if wrong > 0 {
                return Err(Error::Invalid(format!("{wrong} of {} answers under load were wrong", some.len())));
            }
        }
        seen.push((requests, process.memory()?));
    }
    Ok(seen)
}

fn written(extent: Extent, cells: &[Cell], idle: Memory, after: Memory, soaked: &[(u64, Memory)]) -> String {
    let mib = |kib: u64| kib / 1024;
    let growth: Vec<_> =
        soaked.iter().map(|(requests, memory)| format!("{} after {requests}", mib(memory.resident))).collect();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split(['-', '+']).next().unwrap_or_default().trim().to_owned();
    format!(
        "# What admission costs\n\n\
         Written by `make bench-admission`: do not edit. One replica of the webhook as released, one policy with one ECDSA key, \
         a registry in memory that speaks plain HTTP; webhook, registry, API server, etcd and the load share {cores} processors (Linux {kernel}). \
         Every figure is the median of {} interleaved rounds, with the least and the largest round in brackets.\n\n\
         *direct* posts AdmissionReviews to the webhook over TLS; *through the API server* creates pods with `dryRun=All`; \
         *cold* asks for an image that nobody asked for before, by digest; *warm* asks again. CPU is the webhook's process alone, \
         in steps of 10 ms. *no webhook* is the same pod in a namespace that no policy selects.\n\n{}\n\
         Memory of the webhook, resident, in MiB: {} before the first request, {} after all cells, {} at most. \
         Under load for {} minutes, after so many requests: {}.\n",
        extent.rounds,
        table(cells),
        mib(idle.resident),
        mib(after.resident),
        mib(soaked.last().map_or(after.peak, |(_, memory)| memory.peak)),
        extent.soak.as_secs() / 60,
        growth.join(", "),
    )
}
