//! Redaction: no known secret value leaves this crate in a line, a message, a tail or a fact, be it as it is, in base64
//! or URL-encoded. Short values aren't secrets: replacing every `1` would only destroy the text.

use std::sync::{Arc, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

/// Values shorter than this are left alone.
const SHORTEST: usize = 6;
/// What stands in their place.
pub const MASK: &str = "[redacted]";

/// The secrets known to an attempt; clones share them.
#[derive(Clone, Default)]
pub struct Redactor {
    needles: Arc<RwLock<Vec<SecretString>>>,
}

impl Redactor {
    /// Remembers a secret in all the shapes in which it might turn up; each long line of a multi-line one for itself.
    pub fn learn(&self, secret: &SecretString) {
        let value = secret.expose_secret();
        let mut shapes = shapes(value);
        for line in value.lines().map(str::trim).filter(|line| line.len() >= 16 && *line != value) {
            shapes.push(line.to_owned());
        }
        let mut needles = self.needles.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for shape in shapes.into_iter().filter(|s| s.len() >= SHORTEST) {
            if !needles.iter().any(|n| n.expose_secret() == shape) {
                needles.push(SecretString::from(shape));
            }
        }
        // Longest first: a secret that contains another is replaced whole.
        needles.sort_by_key(|n| std::cmp::Reverse(n.expose_secret().len()));
    }

    /// `text` without any known secret.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let needles = self.needles.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut text = text.to_owned();
        for needle in needles.iter() {
            if text.contains(needle.expose_secret()) {
                text = text.replace(needle.expose_secret(), MASK);
            }
        }
        text
    }

    /// A JSON value without any known secret, keys included.
    #[must_use]
    pub fn clean_json(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(s) => Value::String(self.clean(&s)),
            Value::Array(items) => items.into_iter().map(|v| self.clean_json(v)).collect(),
            Value::Object(map) => map.into_iter().map(|(k, v)| (self.clean(&k), self.clean_json(v))).collect(),
            other => other,
        }
    }
}

fn shapes(value: &str) -> Vec<String> {
    let mut shapes = vec![value.to_owned(), url_encoded(value), value.replace('$', "$$")];
    let escaped = serde_json::to_string(value).unwrap_or_default();
    shapes.push(escaped.trim_matches('"').to_owned());
    for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
        shapes.push(engine.encode(value));
    }
    // Inside a longer text in base64 (`user:password`) the value stands at one of three offsets; the characters at
    // its edges depend on its neighbours and are left out.
    for offset in 0..3 {
        let padded = [vec![0; offset], value.as_bytes().to_vec()].concat();
        let encoded = STANDARD_NO_PAD.encode(&padded);
        let inner = encoded.get(offset + 1..encoded.len().saturating_sub(2)).unwrap_or_default();
        if inner.len() >= 8 {
            shapes.push(inner.to_owned());
        }
    }
    shapes
}

fn url_encoded(value: &str) -> String {
    value
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
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
            format!("postgres://u:{}@db", url_encoded(secret)),
            STANDARD.encode(secret),
            STANDARD.encode(format!("robot:{secret}")),
            STANDARD.encode(format!("a:{secret}\n")),
        ] {
            let cleaned = redactor.clean(&text);
            assert!(cleaned.contains(MASK), "{text} became {cleaned}");
            assert!(!cleaned.contains(secret));
        }
    }

    #[test]
    fn each_line_of_a_key_is_found() {
        let redactor = knowing("-----BEGIN KEY-----\nMIIEvgIBADANBgkqhkiG9w0\nAAAAshort\n-----END KEY-----");
        assert_eq!(redactor.clean("x MIIEvgIBADANBgkqhkiG9w0 y"), format!("x {MASK} y"));
    }

    #[test]
    fn short_values_destroy_nothing() {
        assert_eq!(knowing("1").clean("exit 1"), "exit 1");
    }
}
