//! The needles that a secret becomes: as it is, trimmed, without what terminals do, without white space, each of its long
//! lines, and in base64 at any of the three offsets that neighbours can give it. Escapes are read by `scanner`.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};

use super::automaton::{Automaton, MAX_NEEDLE, Needle};

/// Values shorter than this are left alone, in bytes.
const MIN_LENGTH: usize = 6;
/// Lines of a multi-line secret that are secrets for themselves have this length at least.
const MIN_LINE_LENGTH: usize = 16;
/// What is sought in files has this length at least.
const MIN_SEARCHABLE_LENGTH: usize = 12;

/// What is sought in texts: the needles that aren't in base64, and those that are.
#[derive(Default)]
pub(super) struct Automata {
    pub plain: Automaton,
    pub base64: Automaton,
}

/// All that is known.
#[derive(Default)]
pub(super) struct KnownSecrets {
    plain: Vec<SecretString>,
    base64: Vec<SecretString>,
}

impl KnownSecrets {
    /// Whether it's new.
    pub(super) fn learn(&mut self, secret: &SecretString) -> bool {
        let before = self.plain.len() + self.base64.len();
        let value = secret.expose_secret();
        let shown = crate::remote::output::plain(value);
        let squeezed: String = shown.chars().filter(|c| !c.is_whitespace()).collect();
        let mut plain: BTreeSet<&str> = [value, value.trim(), shown.trim(), squeezed.as_str()].into();
        plain.extend(value.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE_LENGTH));
        plain.into_iter().for_each(|text| add(&mut self.plain, text));
        for text in [value, value.trim()] {
            (0..3).for_each(|offset| add(&mut self.base64, &encoded(text, offset)));
        }
        self.plain.len() + self.base64.len() > before
    }

    /// One line for each that may be sought in files.
    pub(super) fn searchable_values(&self) -> SecretString {
        let values = self.plain.iter().chain(&self.base64).map(|value| value.expose_secret());
        let long = values.filter(|v| v.len() >= MIN_SEARCHABLE_LENGTH && !v.contains(['\n', '\r', '\0']));
        SecretString::from(long.map(|v| format!("{v}\n")).collect::<String>())
    }

    /// All values, and whether each is in base64.
    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = (&SecretString, bool)> {
        self.plain.iter().map(|value| (value, false)).chain(self.base64.iter().map(|value| (value, true)))
    }

    pub(super) fn automata(&self) -> Automata {
        Automata { plain: automaton(&self.plain, false), base64: automaton(&self.base64, true) }
    }
}

fn automaton(values: &[SecretString], base64: bool) -> Automaton {
    Automaton::new(values.iter().flat_map(|value| pieces(value.expose_secret())), base64)
}

fn add(values: &mut Vec<SecretString>, text: &str) {
    if text.len() >= MIN_LENGTH && !values.iter().any(|known| known.expose_secret() == text) {
        values.push(SecretString::from(text.to_owned()));
    }
}

/// A text that is too long for one needle, in pieces that together cover it; none begins or ends within a character.
fn pieces(text: &str) -> impl Iterator<Item = Needle<'_>> + Clone {
    let (mut rest, piece) = (text, text.len() > MAX_NEEDLE);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let text = if rest.len() > MAX_NEEDLE {
            let (first, others) = rest.split_at(rest.floor_char_boundary(MAX_NEEDLE));
            rest = others;
            first
        } else {
            rest = "";
            &text[text.ceil_char_boundary(text.len().saturating_sub(MAX_NEEDLE))..]
        };
        Some(Needle { text: text.as_bytes(), piece })
    })
}

/// What of a longer text in base64 a value at `offset` decides alone: the characters at its edges depend on its
/// neighbours.
fn encoded(value: &str, offset: usize) -> String {
    let padded = [vec![0; offset], value.as_bytes().to_vec()].concat();
    let text = STANDARD_NO_PAD.encode(&padded);
    let (from, to) = ((offset * 8).div_ceil(6), padded.len() * 8 / 6);
    text.get(from..to).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_long_secret_cover_it() {
        for length in [1, 63, 64, 65, 128, 129, 1000] {
            for letter in ["a", "é", "😀"] {
                let text = letter.repeat(length);
                let all: Vec<Needle<'_>> = pieces(&text).collect();
                let covered: usize = all.iter().map(|needle| needle.text.len()).sum();
                assert!(covered >= text.len() && all.len() <= text.len().div_ceil(60));
                assert!(all.iter().all(|n| n.text.len() <= MAX_NEEDLE && std::str::from_utf8(n.text).is_ok()));
            }
        }
    }
}
