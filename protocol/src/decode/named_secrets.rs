//! Secrets that are told by the name of their field or variable: which names say so, and which values may be one.

use serde_json::{Map, Value};

use crate::secret::{is_variable, names_a_secret};

/// How a name ends that tells something about a secret, and not the secret.
const ABOUT: [&str; 36] = [
    "TTL",
    "LENGTH",
    "LEN",
    "MIN",
    "MAX",
    "SIZE",
    "COUNT",
    "LIMIT",
    "URL",
    "URI",
    "ENDPOINT",
    "HOST",
    "ISSUER",
    "AUDIENCE",
    "EXPIRY",
    "EXPIRES",
    "EXPIRATION",
    "LIFETIME",
    "TIMEOUT",
    "INTERVAL",
    "SECONDS",
    "MINUTES",
    "HOURS",
    "DAYS",
    "TYPE",
    "NAME",
    "USER",
    "ID",
    "REF",
    "REFERENCE",
    "FILE",
    "PATH",
    "POLICY",
    "ALGORITHM",
    "REQUIRED",
    "ENABLED",
];
/// Tokens that open nothing: where the next page of a list begins.
const OF_LISTS: [&str; 4] = ["PAGE", "CONTINUATION", "CURSOR", "SYNC"];
/// What a token has at least, in bytes: a counter or a short word under its name is something else.
const SHORTEST_TOKEN: usize = 8;

/// How surely what has a name is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Suspicion {
    /// Its name says nothing of the kind.
    No,
    /// It's called a token, as many things are that are none.
    Token,
    /// It's called a password, a key or the like.
    Password,
}

impl Suspicion {
    /// Of a field, by the end of its name, as of `dbPassword`.
    pub(super) fn of_field(key: &str) -> Self {
        Self::of(&last_words(key))
    }

    fn of(name: &str) -> Self {
        let (tokens, others): (Vec<&str>, Vec<&str>) = name.split('_').partition(|word| *word == "TOKEN");
        match () {
            () if !names_a_secret(name) => Self::No,
            () if tokens.is_empty() || names_a_secret(&others.join("_")) => Self::Password,
            () if others.iter().any(|word| OF_LISTS.contains(word)) => Self::No,
            () => Self::Token,
        }
    }
}

/// Whether a variable of this name and value is a secret by its name.
pub(super) fn is_secret_variable(name: &str, value: &Value) -> bool {
    let about = name.rsplit('_').next().is_some_and(|last| ABOUT.contains(&last));
    !about && holds_secret(Suspicion::of(name), value)
}

/// Whether a field's name ends with a secret's word and its value is something.
pub(super) fn is_named_secret(key: &str, value: &Value) -> bool {
    holds_secret(Suspicion::of_field(key), value)
}

/// Whether a field of this name tells something about a secret alone.
pub(super) fn is_about(key: &str) -> bool {
    last_words(key).rsplit('_').next().is_some_and(|last| ABOUT.contains(&last))
}

/// Whether a field holds the name of a secret's source, be it a good one or not, and nothing beside.
pub(super) fn is_source(value: &Value) -> bool {
    let only = |map: &Map<String, Value>, names: &[&str]| map.keys().all(|key| names.contains(&key.as_str()));
    let of = |map: &Map<String, Value>| match (map.get("sealed"), map.get("reference")) {
        (Some(Value::Object(sealed)), None) => only(map, &["sealed"]) && only(sealed, &["key_id", "sealed_box"]),
        (None, Some(reference)) => reference.is_string() && only(map, &["reference"]),
        _ => false,
    };
    value.as_object().is_some_and(of)
}

/// Whether there is something in a value that is as suspicious as its name.
pub(super) fn holds_secret(suspicion: Suspicion, value: &Value) -> bool {
    match value {
        _ if suspicion == Suspicion::No => false,
        Value::Array(items) => items.iter().any(|item| holds_secret(suspicion, item)),
        Value::Object(_) if is_source(value) => false,
        Value::Object(map) => map.iter().any(|(key, value)| !is_about(key) && holds_secret(suspicion, value)),
        Value::String(text) if text.is_empty() || is_switch(text) || is_variable(text) => false,
        Value::String(text) => suspicion == Suspicion::Password || (text.len() >= SHORTEST_TOKEN && !is_amount(text)),
        Value::Number(_) => suspicion == Suspicion::Password,
        Value::Null | Value::Bool(_) => false,
    }
}

fn is_switch(text: &str) -> bool {
    ["true", "false", "yes", "no", "on", "off", "null", "none"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A number, perhaps with the unit of a time, as `3600` and `1.5h` are.
fn is_amount(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    text.len() - number.len() <= 7 && number.parse::<f64>().is_ok()
}

/// The last two words of a name, whichever way it's spelt, as a variable would be.
fn last_words(name: &str) -> String {
    let (mut spelt, mut small) = (String::new(), false);
    for c in name.chars().take(200) {
        if !c.is_ascii_alphanumeric() {
            spelt.push('_');
        } else {
            if small && c.is_ascii_uppercase() {
                spelt.push('_');
            }
            spelt.push(c.to_ascii_uppercase());
        }
        small = c.is_ascii_lowercase();
    }
    let mut words: Vec<&str> = spelt.rsplit('_').filter(|word| !word.is_empty()).take(2).collect();
    // Of a single word that tells, such as TOKEN, only the last place counts: `token_type` is none.
    if words.len() == 2 && names_a_secret(words[1]) && !names_a_secret(words[0]) {
        words.truncate(1);
    }
    words.reverse();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_a_secret_by_the_end_of_its_name() {
        let value = json!("hunter2-hunter2");
        for name in ["password", "dbPassword", "db-password", "API_KEY", "clientSecret", "token", "x.api.key", "passwd"]
        {
            assert!(is_named_secret(name, &value), "{name}: {}", last_words(name));
        }
        for name in [
            "token_type",
            "secret_name",
            "secretName",
            "key_id",
            "host_key",
            "passwordless",
            "secrets",
            "value",
            "nextPageToken",
            "continuation_token",
            "tokenUrl",
        ] {
            assert!(!is_named_secret(name, &value), "{name}: {}", last_words(name));
        }
        assert!(is_named_secret("password", &json!("hunter2")) && is_named_secret("password", &json!(1234)));
    }

    #[test]
    fn a_value_under_such_a_name_is_a_secret_unless_it_can_not_be() {
        for value in [
            json!(["hunter2-hunter2"]),
            json!({ "user": "shop", "value": "hunter2-hunter2" }),
            json!({ "reference": "r", "value": "hunter2-hunter2" }),
            json!([[{ "x": "hunter2-hunter2" }]]),
        ] {
            assert!(is_named_secret("credentials", &value) && is_named_secret("token", &value), "{value}");
        }
        for value in [json!(null), json!(""), json!(true), json!("${DB_PASSWORD}"), json!({ "reference": "r" })] {
            assert!(!is_named_secret("password", &value), "{value}");
        }
        for value in [
            json!(3),
            json!("opaque"),
            json!("36000000"),
            json!("360000000ms"),
            json!({ "ttl": 3, "type": "of-a-bearer" }),
        ] {
            assert!(!is_named_secret("token", &value), "{value}");
        }
    }

    #[test]
    fn a_variable_is_a_secret_by_its_name_and_value() {
        for (name, value, secret) in [
            ("DB_PASSWORD", "hunter2", true),
            ("DB_PASSWORD", "1234", true),
            ("API_TOKEN", "hunter2-hunter2", true),
            ("API_TOKEN", "3600", false),
            ("DB_PASSWORD", "$POSTGRES_PASSWORD", false),
            ("DB_PASSWORD", "${POSTGRES_PASSWORD:-hunter2}", true),
            ("TOKEN_TTL", "3600", false),
            ("PASSWORD_MIN_LENGTH", "8", false),
            ("POSTGRES_PASSWORD_FILE", "/run/secrets/password", false),
            ("REFRESH_TOKEN_URL", "https://id.example.com/token", false),
            ("RESET_PASSWORD_ENABLED", "true", false),
        ] {
            assert_eq!(is_secret_variable(name, &json!(value)), secret, "{name}={value}");
        }
    }
}
