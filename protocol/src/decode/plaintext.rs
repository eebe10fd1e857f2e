//! Finding secrets in plain text in an event that nobody has checked yet. Opening sealed ones is `deploy`'s job.

use serde_json::{Map, Value};

use crate::secret::{looks_like_a_secret, names_a_secret};

/// JSON pointer of the first field of `data` that holds a secret in plain text; `shown` makes keys fit for a message.
///
/// Asked before anything else about the event: whatever else is wrong with it, a secret that has leaked must be told,
/// and the body must not be kept.
pub(super) fn find(data: &Value, shown: fn(&str) -> String) -> Option<String> {
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

/// Whether it's meant as a sealed box or a reference, be it a good one or not.
fn is_source(value: &Value) -> bool {
    let of = |map: &Map<String, Value>| match (map.get("sealed"), map.get("reference")) {
        (Some(sealed), None) => sealed.is_object(),
        (None, Some(reference)) => reference.is_string(),
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
