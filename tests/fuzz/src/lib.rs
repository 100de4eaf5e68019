//! Hostile input for parsers: seeds, mutated in the ways that break parsers, as often as there is time for.
//!
//! A run is a number of rounds from a fixed start, so that it is the same on every machine; `ZASTAVA_FUZZ_ROUNDS` makes
//! it longer and `ZASTAVA_FUZZ_START` another one. The target must return for every input; a panic shows the input.

#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "a test fails by panicking")]

mod mutate;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

pub use self::mutate::Mutator;

/// Rounds where nothing else is said: a second or so for a parser of small documents.
const ROUNDS: u64 = 3_000;
/// An input that takes longer holds up a request: far above what any of them needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a target over each seed as it is, and then over mutations of them. The longest input has `limit` bytes.
///
/// # Panics
/// If the target panics, or takes unreasonably long: with the input, escaped. If a variable is no number.
pub fn run(seeds: &[&[u8]], limit: usize, target: impl Fn(&[u8])) {
    run_one_in(1, seeds, limit, target);
}

/// The same with a fraction of the rounds, for targets that take longer than a parser.
///
/// # Panics
/// As [`run`].
pub fn run_one_in(parts: u64, seeds: &[&[u8]], limit: usize, target: impl Fn(&[u8])) {
    let mut mutator = Mutator::new(number("ZASTAVA_FUZZ_START", 1));
    for seed in seeds {
        one(seed, &target);
    }
    for _ in 0..number("ZASTAVA_FUZZ_ROUNDS", ROUNDS) / parts.max(1) {
        one(&mutator.mutate(seeds, limit), &target);
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")),
        Err(_) => otherwise,
    }
}

fn one(input: &[u8], target: &impl Fn(&[u8])) {
    let began = Instant::now();
    let shown = || String::from_utf8_lossy(input).escape_debug().take(4096).collect::<String>();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("the input that did it: \"{}\"", shown());
        resume_unwind(panic);
    }
    let took = began.elapsed();
    assert!(took < PATIENCE, "{took:?} for the input \"{}\"", shown());
}
