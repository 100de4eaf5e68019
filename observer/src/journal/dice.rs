//! Chance that can be had again: a test prints the seed of the round that failed.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Seeds of `rounds` rounds, the same in each run; `ZASTAVA_JOURNAL_ROUNDS` multiplies them, `ZASTAVA_JOURNAL_SEED`
/// asks for one alone.
pub fn seeds(rounds: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("ZASTAVA_JOURNAL_SEED") {
        return vec![seed];
    }
    (0..rounds * number("ZASTAVA_JOURNAL_ROUNDS").unwrap_or(1)).collect()
}
