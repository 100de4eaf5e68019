//! The difference of two things that were measured side by side, many times.

/// Times of one stretch of execs, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Their median.
    pub median: f64,
    /// What one of a hundred exceeds.
    pub p99: f64,
}

impl Stretch {
    /// Of times in nanoseconds, in any order.
    pub fn of(mut nanoseconds: Vec<u64>) -> Option<Self> {
        nanoseconds.sort_unstable();
        let at = |percent: usize| {
            let index = (nanoseconds.len() * percent).div_ceil(100).saturating_sub(1);
            #[allow(clippy::cast_precision_loss, reason = "an exec takes far less than 2^52 ns")]
            nanoseconds.get(index).map(|value| *value as f64 / 1e3)
        };
        Some(Self { median: at(50)?, p99: at(99)? })
    }
}

/// A median with the interval that holds it with 95 % probability, whatever the distribution: by the signs of what is
/// above and below (<https://en.wikipedia.org/wiki/Sign_test>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Median {
    /// The median.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Median {
    /// Of some values; `None` without any. With fewer than six there is no such interval: it is the whole range then.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        #[allow(clippy::cast_precision_loss, reason = "rounds are few")]
        let rank = (count as f64 / 2.0 - 0.98 * (count as f64).sqrt()).ceil().max(1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1, at most the rounds")]
        let rank = rank as usize;
        let value = f64::midpoint(*values.get(count.checked_sub(1)? / 2)?, *values.get(count / 2)?);
        Some(Self { value, low: values[rank - 1], high: values[count - rank] })
    }

    /// Of what `after` has more than `before`, round by round.
    pub fn of_differences(before: &[f64], after: &[f64]) -> Option<Self> {
        Self::of(before.iter().zip(after).map(|(before, after)| after - before).collect())
    }
}

impl std::fmt::Display for Median {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let decimals = usize::from(self.value.abs() < 100.0);
        write!(f, "{:.decimals$} ({:.decimals$} to {:.decimals$})", self.value, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_the_sign_tests() {
        // Of 30 values the 10th and the 21st: 95.7 %.
        let median = Median::of((1..=30).map(f64::from).rev().collect()).unwrap();
        assert_eq!(median, Median { value: 15.5, low: 10.0, high: 21.0 });
        assert_eq!(Median::of(vec![3.0, 1.0]).unwrap(), Median { value: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(Median::of(Vec::new()), None);
        let same = Median::of_differences(&[1.0, 5.0, 9.0], &[3.0, 7.0, 11.0]).unwrap();
        assert_eq!(same.to_string(), "2.0 (2.0 to 2.0)");
    }

    #[test]
    fn a_stretch_tells_what_one_of_a_hundred_exceeds() {
        let stretch = Stretch::of((1..=200).map(|n| n * 1000).collect()).unwrap();
        assert_eq!(stretch, Stretch { median: 100.0, p99: 198.0 });
        assert_eq!(Stretch::of(Vec::new()), None);
    }
}
