//! One secret and the shapes in which it's found in a text: as it is, with the escapes of JSON, dotenv, shells and
//! URLs, in base64 at any of the three offsets that neighbours can give it, and all of that across line breaks.

use std::collections::BTreeSet;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};

/// Values shorter than this are left alone, in bytes.
const MIN_LENGTH: usize = 6;
/// Lines of a multi-line secret that are secrets for themselves have this length at least.
const MIN_LINE_LENGTH: usize = 16;
/// What is sought in files has this length at least.
const MIN_SEARCHABLE_LENGTH: usize = 12;

/// Escapes at a text's end may be cut off: `\uXXXX`, in bytes.
const MAX_ESCAPE_LENGTH: usize = 6;

/// A text to search: as it is, or without any white space.
pub(super) struct TextView<'a> {
    original: &'a str,
    /// The text to search, when it differs, and where each of its bytes is in the original.
    squeezed: Option<(String, Vec<usize>)>,
}

impl<'a> TextView<'a> {
    /// The text itself and, where it has several lines, what is left of it without white space: a program may have
    /// broken a line anywhere, indented the rest, and dropped the space between them.
    pub(super) fn all(text: &'a str) -> Vec<Self> {
        let mut views = vec![Self { original: text, squeezed: None }];
        if text.contains('\n') {
            let letters = || text.char_indices().filter(|(_, c)| !c.is_whitespace());
            let map = letters().flat_map(|(at, c)| at..at + c.len_utf8()).collect();
            views.push(Self { original: text, squeezed: Some((letters().map(|(_, c)| c).collect(), map)) });
        }
        views
    }

    fn text(&self) -> &str {
        self.squeezed.as_ref().map_or(self.original, |(text, _)| text)
    }

    fn position(&self, at: usize) -> usize {
        self.squeezed.as_ref().map_or(at, |(_, map)| map.get(at).copied().unwrap_or(self.original.len()))
    }

    /// Without the white space that follows.
    fn original(&self, range: &Range<usize>) -> Range<usize> {
        self.position(range.start)..self.position(range.end.saturating_sub(1)) + 1
    }
}

/// What was found in a text.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// Where secrets stand; sorted, without overlaps.
    pub secrets: Vec<Range<usize>>,
    /// Where the text ends in the middle of what may become a secret, and whether half of it is there already.
    pub open: Option<(usize, bool)>,
}

struct Needle {
    value: SecretString,
    base64: bool,
}

/// All needles, and which of them may begin with a given byte of a text.
#[derive(Default)]
pub(super) struct NeedleIndex {
    needles: Vec<Needle>,
    by_first: Vec<Vec<usize>>,
}

impl NeedleIndex {
    pub(super) fn learn(&mut self, secret: &SecretString) {
        let value = secret.expose_secret();
        let shown = crate::remote::output::plain(value);
        let squeezed: String = shown.chars().filter(|c| !c.is_whitespace()).collect();
        let mut plain: BTreeSet<&str> = [value, value.trim(), shown.trim(), squeezed.as_str()].into();
        plain.extend(value.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE_LENGTH));
        for text in plain {
            self.add(text, false);
        }
        for text in [value, value.trim()] {
            for offset in 0..3 {
                self.add(&encoded(text, offset), true);
            }
        }
    }

    fn add(&mut self, text: &str, base64: bool) {
        let known = |n: &Needle| n.base64 == base64 && n.value.expose_secret() == text;
        if text.len() < MIN_LENGTH || self.needles.iter().any(known) {
            return;
        }
        self.by_first.resize(256, Vec::new());
        let first = text.as_bytes()[0];
        let aliases: &[u8] = match first {
            b'+' if base64 => b"+-",
            b'/' if base64 => b"/_",
            b' ' => b" +",
            _ => &[first],
        };
        // Escapes begin with one of two characters, whatever they stand for.
        for byte in aliases.iter().chain(b"%\\").collect::<BTreeSet<_>>() {
            self.by_first[usize::from(*byte)].push(self.needles.len());
        }
        self.needles.push(Needle { value: SecretString::from(text.to_owned()), base64 });
    }

    pub(super) fn searchable_values(&self) -> SecretString {
        let values = self.needles.iter().map(|n| n.value.expose_secret());
        let long = values.filter(|v| v.len() >= MIN_SEARCHABLE_LENGTH && !v.contains(['\n', '\r', '\0']));
        SecretString::from(long.map(|v| format!("{v}\n")).collect::<String>())
    }

    /// Every secret in a view, in places of the original text.
    pub(super) fn scan(&self, view: &TextView<'_>) -> Matches {
        let text = view.text().as_bytes();
        let mut found = Matches::default();
        if self.needles.is_empty() {
            return found;
        }
        for start in 0..text.len() {
            for needle in &self.by_first[usize::from(text[start])] {
                let needle = &self.needles[*needle];
                let (end, open) = needle.follow(text, start);
                if let Some(end) = end {
                    found.secrets.push(view.original(&(start..end)));
                } else if open > 0 {
                    let half = open * 2 >= needle.value.expose_secret().len();
                    let (at, known) = found.open.unwrap_or((view.position(start), false));
                    found.open = Some((at, known || half));
                }
            }
        }
        found
    }
}

/// What of a longer text in base64 a value at `offset` decides alone: the characters at its edges depend on its
/// neighbours.
fn encoded(value: &str, offset: usize) -> String {
    let padded = [vec![0; offset], value.as_bytes().to_vec()].concat();
    let text = STANDARD_NO_PAD.encode(&padded);
    let (from, to) = ((offset * 8).div_ceil(6), padded.len() * 8 / 6);
    text.get(from..to).unwrap_or_default().to_owned()
}

impl Needle {
    /// Compares from `start` on: where the needle ends in the text, or how much of it the text's end has cut off.
    fn follow(&self, text: &[u8], start: usize) -> (Option<usize>, usize) {
        let needle = self.value.expose_secret().as_bytes();
        let (mut end, mut open) = (None, 0);
        // Both what a character is and what it may stand for: pairs of places still to be compared.
        let mut states = vec![(start, 0)];
        let mut seen = Vec::new();
        while let Some((mut at, mut done)) = states.pop() {
            loop {
                if done == needle.len() {
                    end = end.max(Some(at));
                    break;
                }
                if at == text.len() {
                    open = open.max(done);
                    break;
                }
                let special = matches!(text[at], b'%' | b'\\' | b'$' | b'\'' | b'+');
                if special && !seen.contains(&(at, done)) {
                    seen.push((at, done));
                    if text.len() - at < MAX_ESCAPE_LENGTH && matches!(text[at], b'%' | b'\\') {
                        open = open.max(done).max(1);
                    }
                    escapes(&text[at..], &mut |length, bytes| {
                        if self.begins(&needle[done..], bytes) {
                            states.push((at + length, done + bytes.len()));
                        }
                    });
                }
                if !self.matches_byte(needle[done], text[at]) {
                    break;
                }
                (at, done) = (at + 1, done + 1);
            }
        }
        (end, open)
    }

    fn begins(&self, needle: &[u8], bytes: &[u8]) -> bool {
        needle.len() >= bytes.len() && bytes.iter().zip(needle).all(|(b, n)| self.matches_byte(*n, *b))
    }

    /// Whether a byte is the one sought; base64 has two alphabets.
    fn matches_byte(&self, needle: u8, byte: u8) -> bool {
        let standard = match byte {
            b'-' if self.base64 => b'+',
            b'_' if self.base64 => b'/',
            other => other,
        };
        needle == standard
    }
}

/// Calls `meaning` with the length of each escape at the beginning of `text`, and with the bytes that it may mean.
fn escapes(text: &[u8], meaning: &mut dyn FnMut(usize, &[u8])) {
    match text {
        [b'%', a, b, ..] => {
            if let Some(byte) = hex(&[*a, *b]) {
                meaning(3, &[byte.to_le_bytes()[0]]);
            }
        }
        [b'\\', b'u', rest @ ..] => unicode(rest, meaning),
        [b'\\', b'x', a, b, ..] => {
            if let Some(byte) = hex(&[*a, *b]) {
                meaning(4, &[byte.to_le_bytes()[0]]);
            }
        }
        [b'\\', c, ..] => {
            let letter = match c {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 0x08,
                b'f' => 0x0c,
                other => *other,
            };
            meaning(2, &[letter]);
        }
        [b'$', b'$', ..] => meaning(2, b"$"),
        [b'\'', b'\\', b'\'', b'\'', ..] => meaning(4, b"'"),
        [b'+', ..] => meaning(1, b" "),
        _ => {}
    }
}

/// `\uXXXX`, or a pair of them; `rest` is what follows the first `\u`.
fn unicode(rest: &[u8], meaning: &mut dyn FnMut(usize, &[u8])) {
    let unit = |at: usize| rest.get(at..at + 4).and_then(hex);
    let Some(first) = unit(0) else { return };
    let second = if rest.get(4..6) == Some(b"\\u") { unit(6) } else { None };
    let units: Vec<u16> = [Some(first), second].into_iter().flatten().collect();
    let Some(Ok(letter)) = char::decode_utf16(units).next() else { return };
    let length = if letter.len_utf16() == 2 { 12 } else { 6 };
    meaning(length, letter.encode_utf8(&mut [0; 4]).as_bytes());
}

fn hex(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value * 16 + u16::try_from(digit).ok()?)
    })
}
