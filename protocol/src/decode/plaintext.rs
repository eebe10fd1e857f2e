//! Finding secrets in plain text in an event that nobody has checked yet, and taking them out of what is told about it.
//! Opening sealed ones is `deploy`'s job.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::named_secrets::{Suspicion, holds_secret, is_about, is_named_secret, is_secret_variable, is_source};
use super::request::{Metadata, PartialEnvelope};
use crate::credential_shapes::{holds_credential, holds_private_credential};
use crate::names::RepositoryName;
use crate::secret::{is_sealed_box, looks_like_a_secret};

/// What stands in the place of a correlation that held a secret.
const WITHHELD: &str = "(withheld)";
/// Of more secrets than that in one message it isn't looked where else they stand: nothing of it is told.
const MANY: usize = 100;

/// JSON pointer of the first field of an event that holds a secret in plain text; `shown` makes keys fit for a message.
///
/// Asked before anything else about the event: whatever else is wrong with it, a secret that has leaked must be told,
/// and the body must not be kept.
pub(super) fn find(envelope: &Map<String, Value>, shown: fn(&str) -> String) -> Option<String> {
    let data = envelope.get("data");
    let in_data = data.and_then(|data| find_in_data(data, shown));
    in_data.or_else(|| find_encoded(envelope)).or_else(|| find_anywhere(envelope, shown))
}

/// In data that came as base64, which nobody reads.
fn find_encoded(envelope: &Map<String, Value>) -> Option<String> {
    let encoded = envelope.get("data_base64")?.as_str()?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let found = match serde_json::from_slice::<Value>(&bytes) {
        Ok(data) => {
            let event = Map::from_iter([("data".to_owned(), data)]);
            find_in_data(&event["data"], str::to_owned).or_else(|| find_anywhere(&event, str::to_owned)).is_some()
        }
        Err(_) => is_in_bytes(&bytes),
    };
    found.then(|| "/data_base64".to_owned())
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
    let is_secret =
        |name: &str, value: &Value| is_secret_variable(name, value) || value.as_str().is_some_and(looks_like_a_secret);
    let (name, _) = variables.iter().find(|(name, value)| is_secret(name, value))?;
    Some(format!("/data/variables/{}", shown(name)))
}

/// What kind of place a text stands in.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Where only known fields belong, and how suspicious the names above are, by which all below was looked at.
    Fields(Suspicion),
    /// Below `correlation`, where the producer names things as it likes.
    Correlation,
    /// Below `variables`, where what is often public may stand.
    Variables,
}

/// The first text or key that has a credential's shape, and the first field whose name says that it's a secret, wherever
/// it stands and whether or not anybody would read it.
fn find_anywhere(envelope: &Map<String, Value>, shown: fn(&str) -> String) -> Option<String> {
    in_map(envelope, "", Place::Fields(Suspicion::No), shown)
}

fn in_map(map: &Map<String, Value>, at: &str, place: Place, shown: fn(&str) -> String) -> Option<String> {
    map.iter().find_map(|(key, value)| {
        let at = format!("{at}/{}", shown(key));
        if holds_credential(key) {
            return Some(at);
        }
        let below = match (at.as_str(), place) {
            ("/data/correlation", _) => Place::Correlation,
            ("/data/variables", _) => Place::Variables,
            (_, Place::Fields(above)) => {
                let suspicion = Suspicion::of_field(key);
                // Once for each name would take too long where names stand within names.
                if suspicion > above && holds_secret(suspicion, value) {
                    return Some(at);
                }
                Place::Fields(if is_about(key) { Suspicion::No } else { above.max(suspicion) })
            }
            (_, place) => place,
        };
        in_value(value, &at, below, shown)
    })
}

fn in_value(value: &Value, at: &str, place: Place, shown: fn(&str) -> String) -> Option<String> {
    match value {
        Value::Object(map) => in_map(map, at, place, shown),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| in_value(item, &format!("{at}/{i}"), place, shown))
        }
        // A box is noise, which may look like anything; but only where one belongs, and if it can be one.
        Value::String(text) if is_box(at, text) => None,
        Value::String(text) => {
            let found = if place == Place::Variables { holds_private_credential } else { holds_credential };
            found(text).then(|| at.to_owned())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn is_box(at: &str, text: &str) -> bool {
    let of_secret = at.strip_prefix("/data/secrets/").and_then(|rest| rest.split_once('/'));
    let belongs = of_secret.is_some_and(|(_, rest)| rest == "sealed/sealed_box")
        || at == "/data/registry/password/sealed/sealed_box";
    belongs && is_sealed_box(text)
}

/// Whether what can't be read as an event, or wasn't, holds a credential all the same.
pub(super) fn is_in_bytes(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    holds_credential(&text) || (text.contains('\\') && holds_credential(&unescaped(&text)))
}

/// A text without the escapes of JSON.
fn unescaped(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let mut escape = rest[at + 1..].chars();
        rest = match escape.next() {
            Some('u') => {
                let digits = escape.as_str().get(..4).unwrap_or_default();
                match u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) {
                    Some(c) => {
                        plain.push(c);
                        &escape.as_str()[4..]
                    }
                    None => escape.as_str(),
                }
            }
            Some(c @ ('"' | '\\' | '/')) => {
                plain.push(c);
                escape.as_str()
            }
            Some(_) => {
                plain.push(' ');
                escape.as_str()
            }
            None => "",
        };
    }
    plain + rest
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
    withhold_if(known, &holds_credential);
}

/// Takes those values out of it that are secrets by their place or their field's name: they may stand in others, too.
pub(super) fn withhold_repeated(envelope: &Map<String, Value>, known: &mut PartialEnvelope) {
    let mut values = Vec::new();
    if let Some(data) = envelope.get("data") {
        collect_in_data(data, &mut values);
    }
    collect_named(&Value::Object(envelope.clone()), "", &mut values);
    // Shorter ones are part of too many words.
    let repeats = |text: &str| values.iter().any(|value| text == value || (value.len() >= 6 && text.contains(value)));
    withhold_if(known, &|text| values.len() > MANY || repeats(text));
}

fn collect_in_data(data: &Value, values: &mut Vec<String>) {
    match data.get("secrets") {
        Some(Value::Object(secrets)) => {
            secrets.values().filter(|value| !is_source(value)).for_each(|value| collect_texts(value, values));
        }
        Some(secrets) => collect_texts(secrets, values),
        None => {}
    }
    match data.get("registry") {
        Some(Value::Object(registry)) => {
            let password = registry.get("password").filter(|password| !is_source(password));
            password.into_iter().for_each(|password| collect_texts(password, values));
        }
        Some(registry) => collect_texts(registry, values),
        None => {}
    }
    let variables = data.get("variables").and_then(Value::as_object).into_iter().flatten();
    variables
        .filter(|(name, value)| is_secret_variable(name, value))
        .for_each(|(_, value)| collect_texts(value, values));
}

fn collect_named(value: &Value, at: &str, values: &mut Vec<String>) {
    match value {
        _ if matches!(at, "/data/correlation" | "/data/variables") => {}
        Value::Object(map) => {
            for (key, value) in map {
                if is_named_secret(key, value) {
                    collect_texts(value, values);
                    continue;
                }
                // Only the first levels are told apart.
                let at = if at.len() > 20 { at.to_owned() } else { format!("{at}/{key}") };
                collect_named(value, &at, values);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_named(item, "/-/-/-", values)),
        _ => {}
    }
}

fn collect_texts(value: &Value, values: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.is_empty() => values.push(text.clone()),
        Value::Number(number) => values.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, values)),
        Value::Object(map) => map.values().for_each(|value| collect_texts(value, values)),
        _ => {}
    }
}

fn withhold_if(known: &mut PartialEnvelope, is_secret: &dyn Fn(&str) -> bool) {
    let secret = |text: &Option<String>| text.as_deref().is_some_and(is_secret);
    if secret(&known.source) || secret(&known.id) {
        (known.source, known.id) = (None, None);
    }
    known.event_type = known.event_type.take().filter(|text| !is_secret(text));
    known.traceparent = known.traceparent.take().filter(|text| !is_secret(text));
    known.project = known.project.take().filter(|project| !is_secret(project.slug.as_str()));
    known.repository = known.repository.take().filter(|name: &RepositoryName| !is_secret(name.as_str()));
    known.commit = known.commit.take().filter(|commit| !is_secret(commit.as_str()));
    known.server = known.server.take().filter(|handle| !is_secret(handle.as_str()));
    known.correlation.retain(|key, _| !is_secret(key));
    for value in known.correlation.values_mut() {
        if holds_text(value, is_secret) {
            *value = Value::String(WITHHELD.to_owned());
        }
    }
}

fn holds_text(value: &Value, is_secret: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_secret(text),
        Value::Number(number) => is_secret(&number.to_string()),
        Value::Array(items) => items.iter().any(|item| holds_text(item, is_secret)),
        Value::Object(map) => map.iter().any(|(key, value)| is_secret(key) || holds_text(value, is_secret)),
        Value::Null | Value::Bool(_) => false,
    }
}
