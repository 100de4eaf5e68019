//! Mutations: of bytes, of texts, and of JSON documents as documents.

/// Tokens that readers of JSON, references and manifests stumble over.
const TOKENS: &[&[u8]] = &[
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"0",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"true",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xf0\x9f\x92\xa9",
    b"\0",
    b"\n",
    b"sha256:",
    b"@",
    b":",
    b"/",
    b"..",
    b"%2f",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b"\\",
    b",",
];
/// Mutations of one input at most.
const STEPS: u64 = 6;
/// Deepest nesting that is made.
const DEPTH: usize = 20_000;

/// Makes inputs out of seeds, the same ones from the same start.
#[derive(Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// From a start other than 0.
    pub fn new(start: u64) -> Self {
        Self(start.max(1))
    }

    /// xorshift64*, as Vigna published it: good enough to choose with (<https://vigna.di.unimi.it/ftp/papers/xorshift.pdf>).
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from((self.next() >> 16) % bound).unwrap_or(0)
    }

    /// One of the seeds, mutated a few times, at most `limit` bytes.
    pub fn mutate(&mut self, seeds: &[&[u8]], limit: usize) -> Vec<u8> {
        let which = self.below(seeds.len());
        let mut input = seeds.get(which).map_or_else(Vec::new, |seed| seed.to_vec());
        for _ in 0..=self.next() % STEPS {
            self.step(&mut input, seeds);
            input.truncate(limit);
        }
        input
    }

    fn step(&mut self, input: &mut Vec<u8>, seeds: &[&[u8]]) {
        let at = self.below(input.len() + 1);
        match self.next() % 9 {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << (self.next() % 8);
                }
            }
            1 => {
                let token = TOKENS[self.below(TOKENS.len())];
                input.splice(at..at, token.iter().copied());
            }
            2 => input.truncate(at),
            3 => {
                let end = (at + self.below(16)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                // A piece again, sometimes very often: counts are what a writer chooses.
                let end = (at + 1 + self.below(200)).min(input.len());
                let piece = input[at.min(end)..end].to_vec();
                let times = if self.next().is_multiple_of(16) { 2_000 } else { 1 + self.below(4) };
                input.splice(at..at, piece.repeat(times));
            }
            5 => {
                let other = self.below(seeds.len());
                let other = seeds.get(other).copied().unwrap_or_default();
                let from = self.below(other.len() + 1);
                let end = (from + self.below(256)).min(other.len());
                input.splice(at..at, other[from..end].iter().copied());
            }
            6 => {
                let bracket = if self.next().is_multiple_of(2) { b'[' } else { b'{' };
                let deepest = if self.next().is_multiple_of(8) { DEPTH } else { 8 };
                let deep = 1 + self.below(deepest);
                input.splice(at..at, std::iter::repeat_n(bracket, deep));
            }
            _ => self.of_json(input),
        }
    }

    /// Replaces one value of a JSON document by a token, so that the rest of the document is still read.
    fn of_json(&mut self, input: &mut Vec<u8>) {
        let starts: Vec<_> =
            input.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at + 1).collect();
        let Some(from) = starts.get(self.below(starts.len())).copied() else { return };
        let mut depth = 0_usize;
        let mut quoted = false;
        let mut end = from;
        while let Some(byte) = input.get(end) {
            match byte {
                b'\\' if quoted => end += 1,
                b'"' => quoted = !quoted,
                b'[' | b'{' if !quoted => depth += 1,
                b']' | b'}' | b',' if !quoted && depth == 0 => break,
                b']' | b'}' if !quoted => depth -= 1,
                _ => {}
            }
            end += 1;
        }
        let end = end.min(input.len());
        let token = TOKENS[self.below(11)];
        input.splice(from..end, token.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_start_gives_the_same_inputs_and_the_limit_holds() {
        let seeds: [&[u8]; 2] = [br#"{"a": {"b": [1, 2, "x,y"]}, "c": null}"#, b"sha256:00"];
        let inputs = |start| {
            let mut mutator = Mutator::new(start);
            (0..500).map(|_| mutator.mutate(&seeds, 300)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
        assert!(inputs(7).iter().all(|input| input.len() <= 300));
        assert!(inputs(7).iter().any(|input| input.starts_with(br#"{"a":null, "c""#)), "values are replaced whole");
    }
}
