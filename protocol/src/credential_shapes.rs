//! The shapes of well-known credentials, found anywhere in a text: what tells a secret that stands where none belongs.
//! Steps grow with the text's length alone, since anybody may send one. Secrets without such a shape aren't found here.

use crate::secret::is_variable;

/// A run of characters behind a prefix.
struct Shape {
    prefix: &'static str,
    /// Characters that must follow.
    least: usize,
    /// Which.
    of: fn(u8) -> bool,
    /// Whether there must be a part of [`LONGER_THAN_WORDS`] with small and capital letters and digits among the first
    /// [`MIXED_WITHIN`], parts being divided by hyphens: what the prefix alone doesn't tell from words.
    mixed: bool,
    /// Whether no more may follow.
    exact: bool,
    /// Whether such a key is often meant to be public, so that it may be a plain variable.
    may_be_public: bool,
}

const MIXED_WITHIN: usize = 64;
const LONGER_THAN_WORDS: usize = 12;

const fn shape(prefix: &'static str, least: usize, of: fn(u8) -> bool) -> Shape {
    Shape { prefix, least, of, mixed: false, exact: false, may_be_public: false }
}

const fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

const fn capital(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}

/// Base64 for URLs.
const fn url_safe(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

const SHAPES: [Shape; 24] = [
    shape("ghp_", 16, alphanumeric),
    shape("gho_", 16, alphanumeric),
    shape("ghu_", 16, alphanumeric),
    shape("ghs_", 16, alphanumeric),
    shape("ghr_", 16, alphanumeric),
    shape("github_pat_", 16, url_safe),
    shape("glpat-", 16, url_safe),
    shape("xoxa-", 10, url_safe),
    shape("xoxb-", 10, url_safe),
    shape("xoxp-", 10, url_safe),
    shape("xoxr-", 10, url_safe),
    shape("xoxs-", 10, url_safe),
    shape("xapp-", 10, url_safe),
    Shape { mixed: true, ..shape("sk-", 20, url_safe) },
    shape("sk_live_", 16, alphanumeric),
    shape("rk_live_", 16, alphanumeric),
    Shape { exact: true, ..shape("AKIA", 16, capital) },
    Shape { exact: true, ..shape("ASIA", 16, capital) },
    Shape { may_be_public: true, ..shape("AIza", 35, url_safe) },
    shape("AGE-SECRET-KEY-1", 20, capital),
    shape("npm_", 36, alphanumeric),
    shape("dckr_pat_", 20, url_safe),
    shape("hf_", 30, alphanumeric),
    shape("pypi-", 60, url_safe),
];

/// What the prefixes begin with.
const FIRST: &[u8] = b"gxsrAndhp";

/// The longest part of a token in JSON (JWT) that is looked at, and of a URL's authority.
const LONGEST_PART: usize = 512;

/// Whether `text` holds something that has the shape of a well-known credential: a token of GitHub, GitLab, Slack,
/// OpenAI, Stripe, npm, PyPI, Docker, Hugging Face or a Telegram bot, a key of AWS or Google, an age identity, a private
/// key in PEM, a signed token (JWT), or a URL with a password.
#[must_use]
pub fn holds_credential(text: &str) -> bool {
    holds(text.as_bytes(), true)
}

/// As [`holds_credential`], without those that are often public on purpose: keys for browsers and signed tokens.
pub(crate) fn holds_private_credential(text: &str) -> bool {
    holds(text.as_bytes(), false)
}

fn holds(text: &[u8], public_too: bool) -> bool {
    (0..text.len()).any(|at| {
        let rest = &text[at..];
        let begins = at == 0 || !text[at - 1].is_ascii_alphanumeric();
        let elsewhere = match text[at] {
            b':' => is_bot_token(text, at) || is_url_with_password(rest),
            b'P' => rest.starts_with(b"PRIVATE KEY-----") || rest.starts_with(b"PRIVATE KEY BLOCK-----"),
            b'e' if public_too => (at == 0 || !url_safe(text[at - 1])) && is_signed_token(rest),
            _ => false,
        };
        let mut shapes = SHAPES.iter().filter(|shape| public_too || !shape.may_be_public);
        elsewhere || (begins && FIRST.contains(&text[at]) && shapes.any(|shape| shape.begins(rest)))
    })
}

impl Shape {
    fn begins(&self, text: &[u8]) -> bool {
        let Some(rest) = text.strip_prefix(self.prefix.as_bytes()) else { return false };
        if !rest.get(..self.least).is_some_and(|run| run.iter().all(|b| (self.of)(*b))) {
            return false;
        }
        if self.exact && rest.get(self.least).is_some_and(u8::is_ascii_alphanumeric) {
            return false;
        }
        if !self.mixed {
            return true;
        }
        let end = rest.iter().take(MIXED_WITHIN).take_while(|b| (self.of)(**b)).count();
        rest[..end].split(|b| *b == b'-').any(|part| {
            let any = |kind: fn(&u8) -> bool| part.iter().any(kind);
            let mixed = any(u8::is_ascii_digit) && any(u8::is_ascii_lowercase) && any(u8::is_ascii_uppercase);
            part.len() >= LONGER_THAN_WORDS && mixed
        })
    }
}

/// `123456789:` and 35 characters, or `AA` and about as many in all, with nothing that would go on with either. A colon
/// before the number makes it part of the name of something at Amazon.
fn is_bot_token(text: &[u8], colon: usize) -> bool {
    let digits = text[..colon].iter().rev().take(13).take_while(|b| b.is_ascii_digit()).count();
    let before = &text[..colon - digits];
    let key: Vec<u8> = text[colon + 1..].iter().take(65).take_while(|b| url_safe(**b)).copied().collect();
    let any = |kind: fn(&u8) -> bool| key.iter().any(kind);
    let mixed = any(u8::is_ascii_lowercase) && any(u8::is_ascii_uppercase);
    let words = !mixed && any(|b| matches!(b, b'-' | b'_'));
    (6..=12).contains(&digits)
        // As in `https://api.telegram.org/bot123456789:…/`.
        && (before.ends_with(b"bot") || !before.last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b':'))
        && ((key.len() == 35 && any(u8::is_ascii_digit) && !words)
            || ((30..=64).contains(&key.len()) && mixed && key.starts_with(b"AA")))
}

/// `://user:password@`, from the colon on. Another variable in the password's place is none, and neither is what follows
/// a port and a comma.
fn is_url_with_password(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"://") else { return false };
    let ends = |b: &u8| matches!(b, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>') || b.is_ascii_whitespace();
    let authority: Vec<u8> = rest.iter().take(LONGEST_PART).take_while(|b| !ends(b)).copied().collect();
    let Some(at) = authority.iter().rposition(|b| *b == b'@') else { return false };
    let Some(colon) = authority[..at].iter().position(|b| *b == b':') else { return false };
    let password = &authority[colon + 1..at];
    let port = password.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
    let is_port = (1..=5).contains(&port) && password.get(port) == Some(&b',');
    !password.is_empty() && !is_port && !std::str::from_utf8(password).is_ok_and(is_variable)
}

/// Three parts with points between, the first two of which are JSON objects in base64.
fn is_signed_token(text: &[u8]) -> bool {
    let part = |text: &[u8]| text.iter().take(LONGEST_PART).take_while(|b| url_safe(**b)).count();
    if !text.starts_with(b"eyJ") {
        return false;
    }
    let head = part(text);
    let Some(rest) = text[head..].strip_prefix(b".").filter(|rest| head >= 12 && rest.starts_with(b"eyJ")) else {
        return false;
    };
    // The second part may be longer than what is looked at; a third one needn't be seen then.
    let claims = part(rest);
    claims == LONGEST_PART || rest[claims..].strip_prefix(b".").is_some_and(|signature| part(signature) >= 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: [&str; 20] = [
        "ghp_0123456789abcdefghij0123456789abcdef",
        "github_pat_11ABCDEFG0_abcdefghijklmnop",
        "glpat-abcdefghij0123456789",
        "xoxb-1234567890-abcdef",
        "sk-proj-Abcdefghij0123456789abcdef",
        "sk_live_0123456789abcdefAB",
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSyA0123456789abcdefghijklmnopqrstuv",
        "AGE-SECRET-KEY-1QQPQYQSYQQQQQQQQQQQQQQQQ",
        "npm_0123456789abcdefghijklmnopqrstuvwxyz",
        "hf_abcdefghijABCDEFGHIJ0123456789",
        "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn",
        "-----BEGIN PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVPmB92K27u",
        "postgres://shop:hunter2@db/shop",
        "https://:x@h",
        "987654321:AAGxyzTcvCH1vGWJxfSeofSAs0K5PALDsaw12",
        "https://api.telegram.org/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0/sendMessage",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    ];

    #[test]
    fn credentials_are_found_wherever_they_stand() {
        for text in FOUND {
            for around in
                [text.to_owned(), format!("the key is {text}, keep it"), format!("[\"{text}\"]"), format!("é={text}")]
            {
                assert!(holds_credential(&around), "{around}");
            }
        }
    }

    #[test]
    fn every_prefix_is_looked_for() {
        assert!(SHAPES.iter().all(|shape| FIRST.contains(&shape.prefix.as_bytes()[0])));
    }

    #[test]
    fn words_ids_and_addresses_are_no_credentials() {
        for text in [
            "",
            "sk-SK",
            "sk-corner-shop-backend-production",
            "task-0123456789ABCDEFabcdef0123456789",
            "ghp_",
            "npm_config_registry",
            "123456789:550e8400-e29b-41d4-a716-446655440000",
            "123456789:corner-shop-production-deploy-numbe",
            "123456789:corner-shop-production-deploy-no-42",
            "1732838400:Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4MTIz",
            "123456789:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
            "arn:aws:sns:eu-west-1:123456789012:OrderServiceProductionNotifications1",
            "arn:aws:iam::123456789012:OrderServiceProductionNotificationsRole1",
            "postgres://app:${POSTGRES_PASSWORD}@db/app",
            "postgres://app:$POSTGRES_PASSWORD@db/app",
            "see http://h:8080,ada@example.com",
            "sk-SK-locale-Release2026-build",
            "2026-11-28T23:21:09+00:00",
            "https://example.com/a:b@c",
            "postgres://db:5432/shop",
            "ssh://git@github.com/acme/shop",
            "http://user@host:80/",
            "AKIAIOSFODNN7EXAMPLEANDMORE",
            "SALAKIAIOSFODNN7EXAMPLE",
            "eyJhbGciOiJIUzI1NiJ9",
            "-----BEGIN PUBLIC KEY-----",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!holds_credential(text), "{text}");
        }
    }

    #[test]
    fn what_is_often_public_may_be_a_variable() {
        for (text, may) in [(FOUND[7], true), (FOUND[14], true), (FOUND[0], false), (FOUND[11], false)] {
            assert_eq!(!holds_private_credential(text), may, "{text}");
        }
    }

    #[test]
    fn the_longest_texts_of_beginnings_take_no_time() {
        let begun = std::time::Instant::now();
        for piece in ["sk-", "eyJ", "eyJ-", "eyJ.", "://a", "1:", "123456:A", "ghp_0", "xoxb.", "-", ":"] {
            assert!(!holds_private_credential(&piece.repeat(100_000)), "{piece}");
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
