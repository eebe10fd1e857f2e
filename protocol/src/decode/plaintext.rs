//! Finding secrets in plain text in an event that nobody has checked yet, and taking them out of what is told about it.
//! Opening sealed ones is `deploy`'s job.

use serde_json::{Map, Value};

use super::request::{Metadata, PartialEnvelope};
use crate::credential_shapes::{holds_credential, holds_private_credential};
use crate::names::RepositoryName;
use crate::secret::{looks_like_a_secret, names_a_secret};

/// What stands in the place of a correlation that held a secret.
const WITHHELD: &str = "(withheld)";

/// JSON pointer of the first field of an event that holds a secret in plain text; `shown` makes keys fit for a message.
///
/// Asked before anything else about the event: whatever else is wrong with it, a secret that has leaked must be told,
/// and the body must not be kept.
pub(super) fn find(envelope: &Map<String, Value>, shown: fn(&str) -> String) -> Option<String> {
    let data = envelope.get("data");
    let in_data = data.and_then(|data| find_in_data(data, shown));
    in_data.or_else(|| find_anywhere(envelope, shown))
}

fn find_in_data(data: &Value, shown: fn(&str) -> String) -> Option<String> {
    match data.get("secrets") {
        Some(Value::Object(secrets)) => {
            if let Some((name, _)) = secrets.iter().find(|(_, value)| !is_source(value)) {
                return Some(format!("/data/secrets/{}", shown(name)));
            }
        }
        Some(Value::String(_) | Value::Array(_)) => return Some("/data/secrets".to_owned()),
        _ => {}
    }
    match data.get("registry") {
        Some(Value::Object(registry)) if registry.get("password").is_some_and(|password| !is_source(password)) => {
            return Some("/data/registry/password".to_owned());
        }
        Some(Value::String(_) | Value::Array(_)) => return Some("/data/registry".to_owned()),
        _ => {}
    }
    let reason = data.get("reason").and_then(Value::as_str).unwrap_or_default();
    if reason.split_whitespace().any(looks_like_a_secret) {
        return Some("/data/reason".to_owned());
    }
    let variables = data.get("variables")?.as_object()?;
    let (name, _) = variables.iter().find(|(name, value)| is_secret_variable(name, value))?;
    Some(format!("/data/variables/{}", shown(name)))
}

/// Whether it's meant as a sealed box or a reference, be it a good one or not, and holds nothing beside.
fn is_source(value: &Value) -> bool {
    let only = |map: &Map<String, Value>, names: &[&str]| map.keys().all(|key| names.contains(&key.as_str()));
    let of = |map: &Map<String, Value>| match (map.get("sealed"), map.get("reference")) {
        (Some(Value::Object(sealed)), None) => only(map, &["sealed"]) && only(sealed, &["key_id", "sealed_box"]),
        (None, Some(reference)) => reference.is_string() && only(map, &["reference"]),
        _ => false,
    };
    value.as_object().is_some_and(of)
}

fn is_secret_variable(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => (names_a_secret(name) && !text.is_empty()) || looks_like_a_secret(text),
        _ => names_a_secret(name),
    }
}

/// What kind of place a text stands in.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Where only known fields belong.
    Fields,
    /// Below `correlation`, where the producer names things as it likes.
    Correlation,
    /// Below `variables`, where what is often public may stand.
    Variables,
}

/// The first text or key that has a credential's shape, and the first field whose name says that it's a secret, wherever
/// it stands and whether or not anybody would read it.
fn find_anywhere(envelope: &Map<String, Value>, shown: fn(&str) -> String) -> Option<String> {
    in_map(envelope, "", Place::Fields, shown)
}

fn in_map(map: &Map<String, Value>, at: &str, place: Place, shown: fn(&str) -> String) -> Option<String> {
    map.iter().find_map(|(key, value)| {
        let at = format!("{at}/{}", shown(key));
        if holds_credential(key) || (place == Place::Fields && is_named_secret(key, value)) {
            return Some(at);
        }
        match at.as_str() {
            "/data/correlation" => in_value(value, &at, Place::Correlation, shown),
            "/data/variables" => in_value(value, &at, Place::Variables, shown),
            _ => in_value(value, &at, place, shown),
        }
    })
}

fn in_value(value: &Value, at: &str, place: Place, shown: fn(&str) -> String) -> Option<String> {
    match value {
        Value::Object(map) => in_map(map, at, place, shown),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| in_value(item, &format!("{at}/{i}"), place, shown))
        }
        // A box is noise, which may look like anything.
        Value::String(_) if at.ends_with("/sealed/sealed_box") => None,
        Value::String(text) => {
            let found = if place == Place::Variables { holds_private_credential } else { holds_credential };
            found(text).then(|| at.to_owned())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Whether a field's name ends with a secret's word, as `dbPassword` does, and its value is something.
fn is_named_secret(key: &str, value: &Value) -> bool {
    let something = match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        _ => false,
    };
    something && names_a_secret(&last_words(key))
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

/// Whether what can't be read as an event, or wasn't, holds a credential all the same.
pub(super) fn is_in_bytes(body: &[u8]) -> bool {
    holds_credential(&String::from_utf8_lossy(body))
}

/// The name of a header that holds a credential, or an empty one when its name is the credential.
pub(super) fn in_headers(metadata: &Metadata) -> Option<&str> {
    metadata.headers.iter().find_map(|(name, value)| match (holds_credential(name), holds_credential(value)) {
        (true, _) => Some(""),
        (false, true) => Some(name.as_str()),
        (false, false) => None,
    })
}

/// Takes credentials out of what is told about a message that is refused.
pub(super) fn withhold(known: &mut PartialEnvelope) {
    let clean = |text: &Option<String>| text.as_deref().is_none_or(|text| !holds_credential(text));
    if !clean(&known.source) || !clean(&known.id) {
        (known.source, known.id) = (None, None);
    }
    known.event_type = known.event_type.take().filter(|text| !holds_credential(text));
    known.traceparent = known.traceparent.take().filter(|text| !holds_credential(text));
    known.repository = known.repository.take().filter(|name: &RepositoryName| !holds_credential(name.as_str()));
    known.server = known.server.take().filter(|handle| !holds_credential(handle.as_str()));
    known.correlation.retain(|key, _| !holds_credential(key));
    for value in known.correlation.values_mut() {
        if in_value(value, "", Place::Correlation, str::to_owned).is_some() {
            *value = Value::String(WITHHELD.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_secret_by_the_end_of_its_name() {
        let value = Value::String("hunter2".to_owned());
        for name in ["password", "dbPassword", "db-password", "API_KEY", "clientSecret", "token", "x.api.key", "passwd"]
        {
            assert!(is_named_secret(name, &value), "{name}: {}", last_words(name));
        }
        for name in
            ["token_type", "secret_name", "secretName", "key_id", "host_key", "passwordless", "secrets", "value"]
        {
            assert!(!is_named_secret(name, &value), "{name}: {}", last_words(name));
        }
        assert!(
            !is_named_secret("password", &Value::Null) && !is_named_secret("password", &Value::String(String::new()))
        );
    }
}
