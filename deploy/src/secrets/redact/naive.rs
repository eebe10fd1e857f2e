//! The search in its plainest form, which no text may escape: each needle is compared from each place on, in every way to
//! read the text. Tests hold the quick search against it.

use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};

use super::Redactor;
use super::automaton::tests::steps;
use super::escape::Escape;
use super::needle::{Automata, KnownSecrets};
use super::search::Search;

/// Every place where a needle is found in `text`, which stands at `places` of the original.
fn find_in(needles: &[(&str, bool)], text: &[u8], places: &[usize]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for start in 0..text.len() {
        for (needle, base64) in needles {
            if let Some(end) = follow(needle.as_bytes(), *base64, text, start) {
                found.push(places[start]..places[end - 1] + 1);
            }
        }
    }
    found
}

/// Where the needle that begins at `start` ends.
fn follow(needle: &[u8], base64: bool, text: &[u8], start: usize) -> Option<usize> {
    let same = |needle: u8, byte: u8| match byte {
        b'-' if base64 => needle == b'+',
        b'_' if base64 => needle == b'/',
        other => needle == other,
    };
    let (mut end, mut states, mut seen) = (None, vec![(start, 0)], Vec::new());
    while let Some((at, done)) = states.pop() {
        if done == needle.len() {
            end = end.max(Some(at));
        } else if at < text.len() && !seen.contains(&(at, done)) {
            seen.push((at, done));
            if let Escape::Means(length, meaning) = Escape::read(&text[at..]) {
                let bytes = meaning.bytes();
                if needle.len() - done >= bytes.len() && bytes.iter().zip(&needle[done..]).all(|(b, n)| same(*n, *b)) {
                    states.push((at + length, done + bytes.len()));
                }
            }
            if same(needle[done], text[at]) {
                states.push((at + 1, done + 1));
            }
        }
    }
    end
}

/// As it is, and without white space.
fn find(secrets: &KnownSecrets, text: &str) -> [Vec<Range<usize>>; 2] {
    let needles: Vec<(&str, bool)> = secrets.values().map(|(value, base64)| (value.expose_secret(), base64)).collect();
    let letters = || text.char_indices().filter(|(_, c)| !c.is_whitespace());
    let squeezed: String = letters().map(|(_, c)| c).collect();
    let places: Vec<usize> = letters().flat_map(|(at, c)| at..at + c.len_utf8()).collect();
    let as_it_is: Vec<usize> = (0..text.len()).collect();
    [find_in(&needles, text.as_bytes(), &as_it_is), find_in(&needles, squeezed.as_bytes(), &places)]
}

fn knowing(secrets: &[String]) -> (Redactor, KnownSecrets) {
    let (redactor, mut known) = (Redactor::default(), KnownSecrets::default());
    for secret in secrets {
        redactor.learn(&SecretString::from(secret.clone()));
        known.learn(&SecretString::from(secret.clone()));
    }
    (redactor, known)
}

/// What of `wanted` isn't in `found`, white space between pieces excepted.
fn uncovered(text: &str, wanted: &[Range<usize>], found: &[Range<usize>]) -> Vec<Range<usize>> {
    let white = |at: usize| text.as_bytes()[at].is_ascii_whitespace();
    let missed = |at: usize| !white(at) && !found.iter().any(|range| range.contains(&at));
    wanted.iter().filter(|range| (range.start..range.end).any(missed)).cloned().collect()
}

/// A part of a hostile text: of a secret, in some shape, or of what escapes are made of.
#[derive(Debug, Clone)]
enum Part {
    Secret(prop::sample::Index, prop::sample::Index, prop::sample::Index, u8),
    Text(String),
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let index = any::<prop::sample::Index>;
    let secret =
        (index(), index(), index(), 0u8..6).prop_map(|(which, from, to, shape)| Part::Secret(which, from, to, shape));
    prop::collection::vec(prop_oneof![3 => secret, 2 => "[ab%4125c\\\\$'+ nux0\n-]{0,8}".prop_map(Part::Text)], 0..8)
}

fn text_of(parts: &[Part], secrets: &[String]) -> String {
    let shown = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Secret(which, from, to, shape) => {
            let secret = which.get(secrets);
            let ends = [from, to].map(|end| secret.floor_char_boundary(end.index(secret.len() + 1)));
            let part = &secret[if ends[0] < ends[1] { ends[0]..ends[1] } else { 0..secret.len() }];
            match shape {
                0 => part.to_owned(),
                1 => part.bytes().map(|b| format!("%{b:02x}")).collect(),
                2 => serde_json::to_string(part).unwrap_or_default(),
                3 => part.chars().map(|c| format!("{c}\n ")).collect(),
                4 => part.replace('$', "$$").replace('\\', "\\\\"),
                _ => base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE, part),
            }
        }
    };
    parts.iter().map(shown).collect()
}

fn secrets() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof!["[ab]{6,20}", "[a%41\\\\$'+ nu0]{6,16}", "[!-~é]{6,30}", "[ab]{60,70}", "[!-~]{60,140}"];
    prop::collection::vec(one, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_quick_search_finds_all_that_the_plain_one_finds(secrets in secrets(), parts in parts()) {
        let (redactor, known) = knowing(&secrets);
        let text = text_of(&parts, &secrets);
        let [mut wanted, squeezed] = find(&known, &text);
        if text.contains('\n') {
            wanted.extend(squeezed);
        }
        let missed = uncovered(&text, &wanted, &redactor.find(&text));
        prop_assert!(missed.is_empty(), "{:?} in {:?} of {:?}", missed, text, secrets);
    }

    #[test]
    fn lines_are_searched_as_well_as_the_whole_text(secrets in secrets(), parts in parts()) {
        let (redactor, known) = knowing(&secrets);
        let text = text_of(&parts, &secrets);
        let [mut wanted, squeezed] = find(&known, &text);
        wanted.extend(squeezed.into_iter().filter(|range| text[range.clone()].contains('\n')));
        let (mut search, mut found, mut start) = (Search::new(redactor.automata()), Vec::new(), 0);
        for line in text.split('\n') {
            search.read_line(line, start, &mut found);
            start += line.len() + 1;
        }
        search.finish(&mut found);
        let missed = uncovered(&text, &wanted, &found);
        prop_assert!(missed.is_empty(), "{:?} in {:?} of {:?}", missed, text, secrets);
    }
}

/// Fifty secrets, of which some are as bad as can be.
fn fifty() -> Vec<String> {
    let mut secrets: Vec<String> =
        (0..40).map(|n| format!("{}-{n}-p@ss/w0rd+$x%41\\q", "s3cret".repeat(n % 7 + 1))).collect();
    secrets.extend((6..12).map(|n| "a".repeat(n * n)));
    secrets.extend(["\\".repeat(50), "%25".repeat(20), "$".repeat(40), "+ ".repeat(30)]);
    secrets
}

/// Texts that cost as much as can be, each to be repeated.
fn hostile_texts(secrets: &[String]) -> Vec<String> {
    let first_half = |secret: &String| secret[..secret.len() / 2].to_owned();
    let mut texts: Vec<String> =
        ["%2", "%25", "\\a", "\\u005c", "\\x5c", "ab\n", "YWFhYWFh", "czNjcmV0LXNlY3JldA-_", "sk_"]
            .map(str::to_owned)
            .into();
    for first in "%\\$'+a2 \n".chars() {
        texts.push(first.to_string());
        texts.extend("%\\$'+a2 \n".chars().map(|second| format!("{first}{second}a")));
    }
    texts.extend([
        first_half(&secrets[39]),
        secrets.iter().map(first_half).collect(),
        secrets.iter().map(|secret| &secret[..secret.len() - 1]).collect(),
        secrets.iter().flat_map(|secret| secret.bytes()).map(|byte| format!("%{byte:02x}")).collect(),
        secrets.iter().flat_map(|secret| secret.chars()).map(|c| format!("\\{c}")).collect(),
        secrets.concat(),
        "the quick brown fox jumps over the lazy dog ".to_owned(),
    ]);
    texts
}

/// Ten steps a byte are fifty megabytes a second and more, on a machine that does one in two nanoseconds.
const MOST_STEPS: u64 = 10;

#[test]
fn the_work_is_bounded_for_each_byte_of_any_text() {
    let like_one_another = (0..50).map(|n| format!("sk_{}{n}", char::from(b'A' + n))).collect();
    for secrets in [fifty(), like_one_another] {
        let (redactor, _) = knowing(&secrets);
        for text in hostile_texts(&secrets) {
            let text = text.repeat(20_000 / text.len());
            let before = steps();
            let _ = redactor.find(&text);
            let whole = (steps() - before) / text.len() as u64;
            let before = steps();
            let mut lines = super::RedactedLines::default();
            for line in text.as_bytes().chunks(64 * 1024) {
                lines.push(&redactor, &String::from_utf8_lossy(line), |_| {});
            }
            let in_lines = (steps() - before) / text.len() as u64;
            let each = whole.max(in_lines);
            assert!(each <= MOST_STEPS, "{whole} and {in_lines} steps for each byte of {}…", &text[..40]);
        }
    }
}

#[test]
fn text_that_is_full_of_escapes_is_read_and_not_just_masked() {
    let letters = ('0'..='9').chain('a'..='z').chain('A'..='Z');
    let secrets: Vec<String> = letters.map(|c| format!("{c}{c}7Qk{c}-0123-wxyz")).collect();
    let (redactor, _) = knowing(&secrets);
    let prose = "Where the Quick brown fox 0123456789 jumps, over/the lazy dog? \"yes\" & 'no' $5 + 7\n";
    let json = serde_json::to_string(prose).unwrap_or_default();
    for text in [
        prose.to_owned(),
        prose.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        prose.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(),
        serde_json::to_string(&json).unwrap_or_default(),
        "C:\\apps\\backend\\new\\text\\users\\x64\\a\\b\\c ".to_owned(),
    ] {
        let text = text.repeat(100_000 / text.len());
        assert!(redactor.find(&text).is_empty(), "{}…", &text[..60]);
    }
}

#[test]
fn waiting_lines_are_not_searched_again() {
    let (redactor, _) = knowing(&fifty());
    let mut lines = super::RedactedLines::default();
    let (before, mut told) = (steps(), 0);
    for _ in 0..20_000 {
        lines.push(&redactor, "aaaaaaaaaa", |_| told += 1);
    }
    lines.finish(&redactor, |_| told += 1);
    assert_eq!(told, 20_000);
    assert!((steps() - before) / 220_000 <= 30, "{} steps", steps() - before);
}

#[test]
fn what_is_learned_meanwhile_is_found_in_what_waits() {
    let (redactor, _) = knowing(&["one two three".to_owned()]);
    let (mut lines, mut told) = (super::RedactedLines::default(), Vec::new());
    lines.push(&redactor, "a second one", |line| told.push(line));
    redactor.learn(&SecretString::from("second one".to_owned()));
    lines.push(&redactor, "here", |line| told.push(line));
    lines.finish(&redactor, |line| told.push(line));
    assert_eq!(told, ["a [redacted]", "here"]);
}

#[test]
fn an_empty_redactor_changes_nothing() {
    let mut found = Vec::new();
    Search::new(Arc::new(Automata::default())).read_all("a\nb%41", &mut found);
    assert!(found.is_empty());
}
