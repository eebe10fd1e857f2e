//! Compose's JSON: one thing or a list of them, and what isn't set.

use serde_json::Value;

/// Compose's way to say that a key isn't set.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) | Value::Bool(true) => false,
    }
}

/// The items of a list; a value by itself is a list of one.
pub(super) fn items(value: &Value) -> impl Iterator<Item = Value> {
    let all = match value {
        Value::Array(items) => items.clone(),
        other => vec![other.clone()],
    };
    all.into_iter()
}
