//! Redaction: no known secret value leaves this crate in a line, a message, a tail or a fact, be it as it is, escaped,
//! URL-encoded, in base64 or split over lines. How a value is found in all these shapes is in `needle` and
//! `scanner`.
//! Short values aren't secrets: replacing every `1` would only destroy the text.

mod automaton;
mod escape;
mod lines;
#[cfg(test)]
mod naive;
mod needle;
mod readings;
mod scanner;
mod search;

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::SecretString;

use crate::remote::output::plain_text;
use needle::{Automata, KnownSecrets};
use search::Search;

pub use lines::RedactedLines;

/// What replaces a secret.
pub(crate) const MASK: &str = "[redacted]";

/// The secrets known to an attempt; clones share them.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    secrets: KnownSecrets,
    /// Made of the secrets when a text is to be cleaned.
    automata: Option<Arc<Automata>>,
}

impl Redactor {
    /// Remembers a secret in all the shapes in which it might turn up; each long line of a multi-line one for itself.
    pub fn learn(&self, secret: &SecretString) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.secrets.learn(secret) {
            known.automata = None;
        }
    }

    /// `text` without any known secret.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        mask(text, &self.find(text))
    }

    /// A JSON value without any known secret, keys included, and without what `plain_text` leaves out.
    #[must_use]
    pub(crate) fn clean_json(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(s) => Value::String(self.clean(&plain_text(&s))),
            Value::Array(items) => items.into_iter().map(|v| self.clean_json(v)).collect(),
            Value::Object(map) => {
                map.into_iter().map(|(k, v)| (self.clean(&plain_text(&k)), self.clean_json(v))).collect()
            }
            other => other,
        }
    }

    /// One line for each secret that is long enough to be sought in files: a search would find a short one, such as
    /// `postgres`, where nobody has put it as a secret.
    pub(crate) fn searchable_values(&self) -> SecretString {
        self.known.read().unwrap_or_else(PoisonError::into_inner).secrets.searchable_values()
    }

    /// Where secrets stand; sorted, without overlaps.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        Search::new(self.automata()).read_all(text, &mut found);
        merge_overlapping(found)
    }

    fn automata(&self) -> Arc<Automata> {
        if let Some(automata) = &self.known.read().unwrap_or_else(PoisonError::into_inner).automata {
            return automata.clone();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Known { secrets, automata } = &mut *known;
        automata.get_or_insert_with(|| Arc::new(secrets.automata())).clone()
    }
}

/// Sorted, and those that touch made one.
fn merge_overlapping(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|r| r.start);
    let mut all: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

/// `text` with `ranges` masked; line breaks stay.
fn mask(text: &str, ranges: &[Range<usize>]) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    for range in ranges {
        let range = text.floor_char_boundary(range.start).max(from)..text.ceil_char_boundary(range.end);
        masked.push_str(&text[from..range.start]);
        let lines = text[range.clone()].split('\n').map(|_| MASK).collect::<Vec<_>>();
        masked.push_str(&lines.join("\n"));
        from = range.end;
    }
    masked.push_str(&text[from..]);
    masked
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn knowing(secret: &str) -> Redactor {
        let redactor = Redactor::default();
        redactor.learn(&SecretString::from(secret.to_owned()));
        redactor
    }

    #[test]
    fn a_secret_is_found_in_every_shape() {
        let secret = "p@ss/w0rd+x";
        let redactor = knowing(secret);
        for text in [
            format!("password is {secret}!"),
            "postgres://u:p%40ss%2fw0rd%2Bx@db".to_owned(),
            "postgres://u:p%40ss/w0rd+x@db".to_owned(),
            STANDARD.encode(secret),
            STANDARD.encode(format!("robot:{secret}")),
            STANDARD.encode(format!("a:{secret}\n")),
            URL_SAFE_NO_PAD.encode(format!("ab:{secret}")),
        ] {
            let cleaned = redactor.clean(&text);
            assert!(cleaned.contains(MASK), "{text} became {cleaned}");
            assert!(!cleaned.contains(secret));
        }
    }

    #[test]
    fn secrets_that_overlap_are_masked_together() {
        let redactor = knowing("alpha-beta");
        redactor.learn(&SecretString::from("beta-gamma".to_owned()));
        assert_eq!(redactor.clean("<alpha-beta-gamma>"), format!("<{MASK}>"));
    }

    #[test]
    fn each_line_of_a_key_is_found() {
        let redactor = knowing("-----BEGIN KEY-----\nMIIEvgIBADANBgkqhkiG9w0\nAAAAshort\n-----END KEY-----");
        assert_eq!(redactor.clean("x MIIEvgIBADANBgkqhkiG9w0 y"), format!("x {MASK} y"));
        let indented = "key:\n  -----BEGIN KEY-----\n  MIIEvgIBADANBgkqhkiG9w0\n  AAAAshort\n  -----END KEY-----";
        assert!(!redactor.clean(indented).contains("short"), "{}", redactor.clean(indented));
    }

    #[test]
    fn short_values_destroy_nothing() {
        assert_eq!(knowing("1").clean("exit 1"), "exit 1");
    }

    /// How programs print a value.
    #[derive(Debug, Clone, Copy)]
    enum Shape {
        AsItIs,
        Json,
        JsonInAscii,
        Url,
        UrlInLowerCase,
        Dotenv,
        DoubledDollars,
        Base64(usize),
        UrlSafeBase64(usize),
    }

    impl Shape {
        fn of(self, secret: &str) -> String {
            let json = || serde_json::to_string(secret).unwrap_or_default();
            let url = || secret.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
            match self {
                Self::AsItIs => secret.to_owned(),
                Self::Json => json(),
                Self::JsonInAscii => json()
                    .chars()
                    .flat_map(|c| match c {
                        ' '..='~' => vec![c.to_string()],
                        c => c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect(),
                    })
                    .collect(),
                Self::Url => url(),
                Self::UrlInLowerCase => url().to_ascii_lowercase(),
                Self::Dotenv => crate::project::env::dotenv::render(&[("A".to_owned(), secret.to_owned())].into()),
                Self::DoubledDollars => secret.replace('$', "$$"),
                Self::Base64(before) => STANDARD.encode(format!("{}{secret}:b", "x".repeat(before))),
                Self::UrlSafeBase64(before) => URL_SAFE_NO_PAD.encode(format!("{}{secret}", "x".repeat(before))),
            }
        }
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        use Shape::*;
        prop_oneof![
            Just(AsItIs),
            Just(Json),
            Just(JsonInAscii),
            Just(Url),
            Just(UrlInLowerCase),
            Just(Dotenv),
            Just(DoubledDollars),
            (0usize..4).prop_map(Base64),
            (0usize..4).prop_map(UrlSafeBase64),
        ]
    }

    /// Whether a cleaned text still shows what it was `shown`, between what stood `around` it: a short secret may well be
    /// a part of that, or of the mask. Of base64 the characters at the edges belong to the neighbours, too.
    fn shows(cleaned: &str, shown: &str, around: [&str; 2]) -> bool {
        let core: String = shown.chars().skip(3).take(shown.chars().count().saturating_sub(8)).collect();
        let left = cleaned.replace(MASK, "");
        let left = left.strip_prefix(around[0]).unwrap_or(&left);
        let left = left.strip_suffix(around[1]).unwrap_or(left);
        !core.trim().is_empty() && left.contains(core.trim())
    }

    proptest! {
        #[test]
        fn no_shape_of_a_secret_survives(
            secret in "[^\\x00 \\n\\r][^\\x00]{6,40}[^\\x00 \\n\\r]", shape in shapes(), before in "[a-z:=\" ]{0,9}"
        ) {
            let redactor = knowing(&secret);
            let shown = shape.of(&secret);
            let cleaned = redactor.clean(&format!("{before}{shown} after"));
            prop_assert!(cleaned.contains(MASK), "{} became {}", shown, cleaned);
            prop_assert!(!shows(&cleaned, &shown, [&before, " after"]), "{} became {}", shown, cleaned);
        }

        #[test]
        fn text_without_secrets_stays_as_it_is(text in "[^\\x00]{0,80}") {
            prop_assert_eq!(knowing("a secret that is nowhere").clean(&text), text);
        }

        #[test]
        fn no_secret_survives_that_comes_in_pieces_on_several_lines(
            secret in "[!-~][ -~]{8,60}[!-~]",
            shape in prop_oneof![Just(Shape::AsItIs), Just(Shape::Base64(1)), Just(Shape::Url), Just(Shape::Json)],
            cuts in prop::collection::vec(1usize..60, 1..4),
            indent in "[ ]{0,4}",
        ) {
            let redactor = knowing(&secret);
            let shown = shape.of(&secret);
            let mut pieces = vec![String::from("before ")];
            for (at, c) in shown.chars().enumerate() {
                if cuts.contains(&at) {
                    pieces.push(indent.clone());
                }
                if let Some(last) = pieces.last_mut() {
                    last.push(c);
                }
            }
            let mut told = Vec::new();
            let mut lines = RedactedLines::default();
            for piece in &pieces {
                lines.push(&redactor, piece.trim_end(), |line| told.push(line));
            }
            lines.push(&redactor, "after", |line| told.push(line));
            lines.finish(&redactor, |line| told.push(line));
            let joined: String = told.iter().map(|line| line.trim()).collect();
            prop_assert!(joined.contains(MASK), "{:?} became {:?}", pieces, told);
            prop_assert!(!shows(&joined, &shown, ["before", "after"]), "{:?} became {:?}", pieces, told);
            prop_assert_eq!(told.len(), pieces.len() + 1, "every line is told: {:?}", told);
            prop_assert_eq!(told.last().map(String::as_str), Some("after"));
        }
    }
}
