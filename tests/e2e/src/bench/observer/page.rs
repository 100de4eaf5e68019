//! The page with the figures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Watcher;
use super::watched::Charged;
use crate::bench::paired::{Median, Stretch};
use crate::metrics::Metrics;

/// Whether what ran was the image's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// It was.
    Image,
    /// A program that was dropped into the container: each exec is an event.
    Drift,
}

/// What became of the execs of a load.
#[derive(Debug)]
pub struct Loss {
    load: Load,
    rate: Option<u64>,
    per_second: f64,
    executed: u64,
    unaccounted: u64,
    dropped: Vec<(String, u64)>,
    cpu: f64,
}

impl Loss {
    /// Between two balanced accounts.
    #[allow(clippy::cast_precision_loss, reason = "counts of execs are far below 2^52")]
    pub fn between(
        load: Load,
        rate: Option<u64>,
        took: Duration,
        cpu: Duration,
        before: &Metrics,
        after: &Metrics,
    ) -> Self {
        let counted = |by: &str| {
            let count = |metrics: &Metrics| metrics.get(&format!("zastava_execs_counted_total{{by=\"{by}\"}}"));
            count(after).unwrap_or(0).saturating_sub(count(before).unwrap_or(0))
        };
        let executed = counted("kernel");
        // The two counts and the ends are read one after the other: each pair has to agree, not all at once.
        let ([all, ends], [all_before, ends_before]) = (<[u64; 2]>::from(after.execs()), before.execs().into());
        let unseen = executed.abs_diff(counted("probe"));
        let unaccounted = unseen + (all - all_before).abs_diff(ends - ends_before);
        let name = "zastava_execs_dropped_total";
        let dropped = after
            .each(name)
            .map(|(labels, count)| (labels.to_owned(), count - before.get(&format!("{name}{labels}")).unwrap_or(0)));
        Self {
            load,
            rate,
            per_second: executed as f64 / took.as_secs_f64(),
            executed,
            unaccounted,
            dropped: dropped.filter(|(_, count)| *count > 0).collect(),
            cpu: cpu.as_secs_f64() / took.as_secs_f64(),
        }
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Figures {
    stretches: BTreeMap<(&'static str, Watcher), Vec<Stretch>>,
    /// Processor milliseconds for a thousand execs.
    pub cpu: Vec<f64>,
    /// The same with libraries.
    pub cpu_libraries: Vec<f64>,
    /// From the observer's start to its first event.
    pub starts: Vec<Duration>,
    /// Loads and what became of them.
    pub losses: Vec<Loss>,
    /// Milliseconds from an exec to its finding.
    pub findings: Vec<f64>,
    /// Share of a processor when nothing happens.
    pub idle_cpu: f64,
    /// Memory then.
    pub memory: Option<Charged>,
    /// The journal's own figures.
    pub journal: serde_json::Value,
    /// The observer of the loads.
    pub pod: String,
}

impl Figures {
    /// Adds a stretch.
    pub fn add(&mut self, watcher: Watcher, program: &'static str, stretch: Stretch) {
        self.stretches.entry((program, watcher)).or_default().push(stretch);
    }

    fn of(&self, program: &'static str, watcher: Watcher, figure: impl Fn(&Stretch) -> f64) -> Vec<f64> {
        self.stretches.get(&(program, watcher)).into_iter().flatten().map(figure).collect()
    }

    fn times(&self) -> String {
        let mut text = String::from(
            "| program | watched by | median µs | p99 µs | added at the median, µs | added, % | added at p99, µs |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for &(program, watcher) in self.stretches.keys() {
            let (median, p99) = (|s: &Stretch| s.median, |s: &Stretch| s.p99);
            let [now, base] = [watcher, Watcher::Nobody].map(|watcher| self.of(program, watcher, median));
            let [now_p99, base_p99] = [watcher, Watcher::Nobody].map(|watcher| self.of(program, watcher, p99));
            let shares = now.iter().zip(&base).map(|(now, base)| (now - base) / base * 100.0).collect();
            let of_nobody = watcher == Watcher::Nobody;
            let added = |median: Option<Median>| median.filter(|_| !of_nobody).map_or("–".into(), |m| m.to_string());
            let _ = writeln!(
                text,
                "| {program} | {} | {} | {} | {} | {} | {} |",
                name(watcher),
                shown(Median::of(now.clone())),
                shown(Median::of(now_p99.clone())),
                added(Median::of_differences(&base, &now)),
                added(Median::of(shares)),
                added(Median::of_differences(&base_p99, &now_p99)),
            );
        }
        text
    }

    fn loads(&self) -> String {
        let mut text = String::from(
            "| what runs | asked for a second | execs a second | execs | dropped, by reason | unaccounted | observer, processors |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for loss in &self.losses {
            let what = if loss.load == Load::Image { "the image's own program" } else { "a dropped program" };
            let rate = loss.rate.map_or("as many as can be".into(), |rate| rate.to_string());
            let dropped: Vec<String> = loss.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let dropped = if dropped.is_empty() { "0".to_owned() } else { dropped.join(", ") };
            let _ = writeln!(
                text,
                "| {what} | {rate} | {:.0} | {} | {dropped} | {} | {:.3} |",
                loss.per_second, loss.executed, loss.unaccounted, loss.cpu
            );
        }
        text
    }

    /// The page.
    pub fn written(&self, rounds: usize) -> String {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.split(['-', '+']).next().unwrap_or_default().trim().to_owned();
        let starts = Median::of(self.starts.iter().map(|start| start.as_secs_f64() * 1e3).collect());
        let mib = |kib: u64| kib / 1024;
        let memory = self.memory.map_or_else(String::new, |memory| {
            format!(
                "{} MiB are charged to its container, rings and maps included; {} MiB of them are pages of files, which \
                 the kernel takes back when it needs them",
                mib(memory.total),
                mib(memory.files)
            )
        });
        let mut findings = self.findings.clone();
        findings.sort_by(f64::total_cmp);
        let p99 = findings.get((findings.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN);
        format!(
            "# What it costs to be observed\n\n\
             Written by `make bench-observer`: do not edit. One node, the observer as released; kubelet, API server, etcd, the load \
             and the observer share {cores} processors (Linux {kernel}). {rounds} rounds; in each, stretches of {} execs under each watcher, \
             a round's order turned around every other time. In brackets the interval that holds the median with 95 % \
             probability; what is *added* is the difference to *nobody* of the same round. *nobody, once more* is what the measurement \
             itself tells apart.\n\n\
             ## Time of an exec\n\n\
             From before vfork to after waitpid, in a container, of a program that does nothing.\n\n{}\n\
             Processor time of the observer for 1,000 such execs: {} ms, with libraries {} ms.\n\n\
             ## Loss\n\n\
             *execs* is what the kernel counted itself; *unaccounted* is what the probe did not see, and what it saw without an end in its accounts.\n\n{}\n\
             ## Time and size\n\n\
             - From an exec to its finding, as a watcher of the API server sees it: {} ms at the median, {p99:.0} ms at p99 of {}.\n\
             - From the observer's start to its first event: {} ms.\n\
             - Idle beside {} containers: {:.2} % of a processor; {memory}.\n\
             - Journal: {} events a second appended, each with a write of its own, and {} read, of {} bytes each.\n",
            super::EXECS,
            self.times(),
            shown(Median::of(self.cpu.clone())),
            shown(Median::of(self.cpu_libraries.clone())),
            self.loads(),
            shown(Median::of(findings)),
            self.findings.len(),
            shown(starts),
            super::CONTAINERS,
            self.idle_cpu * 100.0,
            self.journal["appendedPerSecond"],
            self.journal["readPerSecond"],
            self.journal["recordBytes"],
        )
    }
}

fn shown(median: Option<Median>) -> String {
    median.map_or_else(|| "–".to_owned(), |median| median.to_string())
}

fn name(watcher: Watcher) -> &'static str {
    match watcher {
        Watcher::Nobody => "nobody",
        Watcher::NobodyAgain => "nobody, once more",
        Watcher::Connector => "the proc connector alone",
        Watcher::Perf => "`perf record --buildid-mmap`",
        Watcher::Observer => "the observer",
        Watcher::Libraries => "the observer, libraries too",
    }
}
