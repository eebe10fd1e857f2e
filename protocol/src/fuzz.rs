//! Inputs that no honest program sends, for tests of parsers: mutations of real ones, from a seed. A short run is part of
//! the suite and always tries the same inputs; with `SLIPWAY_FUZZ_SECONDS` each test goes on for so long, from a seed of
//! its own that is printed (`SLIPWAY_SEED` plays it again).
//!
//! Only with feature `fuzz`, which tests ask for.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Inputs of a short run.
const INPUTS: u64 = 400;
/// No input is longer than this, in bytes.
const LONGEST: usize = 64 * 1024;
/// What parsers stumble over, to be put anywhere.
const TOKENS: [&[u8]; 40] = [
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\r\n",
    b"\n",
    b"\t",
    b" ",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"#",
    b"$",
    b"${",
    b"%",
    b"&a ",
    b"*a",
    b"<<: ",
    b"- ",
    b"---\n",
    b"!!binary ",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b"../",
    b"/",
    b"@",
];

/// Numbers that look random and follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct SeededNumbers(u64);

impl SeededNumbers {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % (end.max(1) as u64)).unwrap_or_default()
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// Calls `test` with mutations of the inputs in `corpus`, and with these themselves.
///
/// # Panics
/// As `test` does, after a line that says with which input.
#[expect(clippy::print_stderr, reason = "shown when a test fails, and by a long run")]
pub fn run(name: &str, corpus: &[&[u8]], mut test: impl FnMut(&[u8])) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let long = variable("SLIPWAY_FUZZ_SECONDS").map(Duration::from_secs);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64);
    let seed = variable("SLIPWAY_SEED").unwrap_or(if long.is_some() { now } else { 0 });
    let (mut random, began, mut slowest) = (SeededNumbers::new(seed), Instant::now(), Duration::ZERO);
    let mut number = 0;
    while long.map_or(number < INPUTS, |long| began.elapsed() < long) {
        let input = match corpus.get(usize::try_from(number).unwrap_or(usize::MAX)) {
            Some(input) => input.to_vec(),
            None => mutated(corpus, &mut random),
        };
        let at = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&input))) {
            eprintln!("{name}: seed {seed}, input {number}: {}", input.escape_ascii());
            resume_unwind(panic);
        }
        slowest = slowest.max(at.elapsed());
        number += 1;
    }
    eprintln!("{name}: seed {seed}, {number} inputs in {:?}, the slowest took {slowest:?}", began.elapsed());
}

/// One input of the corpus, changed in a few places.
fn mutated(corpus: &[&[u8]], random: &mut SeededNumbers) -> Vec<u8> {
    let mut input = random.pick(corpus).to_vec();
    // What is JSON stays it mostly: else parsers would see little but its first fault.
    if random.below(3) > 0
        && let Ok(mut value) = serde_json::from_slice::<Value>(&input)
    {
        for _ in 0..=random.below(3) {
            mutate_json(&mut value, random);
        }
        input = value.to_string().into_bytes();
        if random.below(4) > 0 {
            return input;
        }
    }
    for _ in 0..=random.below(6) {
        mutate_bytes(&mut input, corpus, random);
    }
    input.truncate(LONGEST);
    input
}

fn mutate_bytes(input: &mut Vec<u8>, corpus: &[&[u8]], random: &mut SeededNumbers) {
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at).min(64) + 1);
    match random.below(7) {
        0 => drop(input.drain(at..end)),
        1 => drop(input.splice(at..at, random.pick(&TOKENS).iter().copied())),
        2 => drop(input.splice(at..end, random.pick(&TOKENS).repeat(1 + random.below(3)))),
        3 => {
            let times = if random.below(20) == 0 { 2000 } else { 3 };
            let again = input[at..end].repeat(times);
            drop(input.splice(at..at, again));
        }
        4 => {
            let other = random.pick(corpus);
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        5 => input.truncate(at),
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

/// Changes one value somewhere in a JSON value.
fn mutate_json(value: &mut Value, random: &mut SeededNumbers) {
    let deeper = random.below(6) > 0;
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let at = random.below(map.len());
            if let Some((_, inner)) = map.iter_mut().nth(at) {
                return mutate_json(inner, random);
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = random.below(items.len());
            return mutate_json(&mut items[at], random);
        }
        _ => {}
    }
    match (&mut *value, random.below(8)) {
        (Value::Object(map), 0..=2) => {
            let key: Option<String> = map.keys().nth(random.below(map.len())).cloned();
            if let Some(key) = key {
                let inner = map.remove(&key).unwrap_or_default();
                if random.below(2) == 0 {
                    map.insert(format!("{key}{}", odd_text(random)), inner);
                }
            }
        }
        (Value::Object(map), 3) => drop(map.insert(odd_text(random), odd_value(random))),
        (Value::Array(items), 0..=2) => {
            let again: Vec<Value> = items.iter().cycle().take(items.len() * random.below(40)).cloned().collect();
            items.extend(again);
        }
        (Value::String(text), 0..=4) => {
            let at = text.floor_char_boundary(random.below(text.len() + 1));
            text.insert_str(at, &odd_text(random));
        }
        _ => *value = odd_value(random),
    }
}

fn odd_text(random: &mut SeededNumbers) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(3) {
        let _ = write!(text, "{}", String::from_utf8_lossy(random.pick(&TOKENS)));
    }
    text.repeat(if random.below(30) == 0 { 5000 } else { 1 })
}

fn odd_value(random: &mut SeededNumbers) -> Value {
    match random.below(9) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => Value::from(-1),
        3 => Value::from(u64::MAX),
        4 => Value::from(1e300),
        5 => Value::Array(Vec::new()),
        6 => Value::Object(serde_json::Map::new()),
        7 => (0..random.below(100)).fold(Value::Null, |inner, _| Value::Array(vec![inner])),
        _ => Value::String(odd_text(random)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_many_of_them() {
        let corpus: [&[u8]; 2] = [br#"{"a": [1, "text"], "b": {"c": null}}"#, b"A=1\nB='2'\n"];
        let inputs = |seed| {
            let mut random = SeededNumbers::new(seed);
            (0..500).map(|_| mutated(&corpus, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
        let mut different = inputs(7);
        different.sort();
        different.dedup();
        assert!(different.len() > 400, "{} inputs", different.len());
        assert!(different.iter().any(|input| serde_json::from_slice::<Value>(input).is_ok()));
    }
}
