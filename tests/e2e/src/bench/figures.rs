//! Figures out of measurements, and the table they are printed in.

use std::fmt::Write as _;
use std::time::Duration;

/// One repetition of a cell.
#[derive(Debug, Default, Clone)]
pub struct Round {
    /// How long each request took.
    pub latencies: Vec<Duration>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Processor time of the webhook meanwhile.
    pub cpu: Duration,
    /// Requests that the registry got meanwhile.
    pub registry: u64,
    /// Requests that were not answered as they should have been.
    pub wrong: u64,
    /// Memory of the webhook afterwards, resident, in KiB.
    pub resident: u64,
}

impl Round {
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    fn per_request(&self, value: f64) -> f64 {
        value / self.latencies.len().max(1) as f64
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// A cell: the same thing, some times.
#[derive(Debug)]
pub struct Cell {
    /// What was done.
    pub name: String,
    /// The repetitions.
    pub rounds: Vec<Round>,
}

impl Cell {
    /// The median of a figure over the rounds, with its least and its largest.
    fn spread(&self, figure: impl Fn(&Round) -> f64, decimals: usize) -> String {
        let mut values: Vec<f64> = self.rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let Some(median) = values.get(values.len() / 2) else { return "–".to_owned() };
        let (least, largest) = (values[0], values[values.len() - 1]);
        format!("{median:.decimals$} ({least:.decimals$}–{largest:.decimals$})")
    }

    fn line(&self) -> String {
        let wrong: u64 = self.rounds.iter().map(|round| round.wrong).sum();
        let requests = self.rounds.first().map_or(0, |round| round.latencies.len());
        #[allow(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
        let registry = |round: &Round| round.per_request(round.registry as f64);
        #[allow(clippy::cast_precision_loss, reason = "KiB of one process are far below 2^52")]
        let resident = |round: &Round| round.resident as f64 / 1024.0;
        format!(
            "| {} | {requests} | {} | {} | {} | {} | {} | {} | {wrong} |",
            self.name,
            self.spread(|round| round.percentile(50), 2),
            self.spread(|round| round.percentile(99), 2),
            self.spread(Round::rate, 0),
            self.spread(|round| round.per_request(round.cpu.as_secs_f64() * 1e3), 3),
            self.spread(registry, 2),
            self.spread(resident, 0),
        )
    }
}

/// All cells as a table of a document.
pub fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| cell | requests a round | p50 ms | p99 ms | requests/s | CPU seconds per 1,000 | registry requests each | resident MiB after | wrong answers |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let _ = writeln!(text, "{}", cell.line());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_tells_median_and_spread_of_its_rounds() {
        let round = |millis: &[u64]| Round {
            latencies: millis.iter().copied().map(Duration::from_millis).collect(),
            elapsed: Duration::from_secs(1),
            cpu: Duration::from_millis(4),
            registry: 8,
            wrong: 0,
            resident: 2048,
        };
        let cell =
            Cell { name: "c".into(), rounds: vec![round(&[1, 2, 3, 9]), round(&[2, 4, 5, 7]), round(&[1, 1, 1, 1])] };
        assert_eq!(
            cell.line(),
            "| c | 4 | 2.00 (1.00–4.00) | 7.00 (1.00–9.00) | 4 (4–4) | 1.000 (1.000–1.000) | 2.00 (2.00–2.00) | 2 (2–2) | 0 |"
        );
    }
}
