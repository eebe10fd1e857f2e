//! Secrets that came sealed or by reference, and stand once more in plain text in the same message: in a correlation id,
//! as a name, in a field that nobody reads. Those would be kept and told.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use slipway_protocol::names::VariableName;

use crate::message::Incoming;

/// Shorter values, in bytes, are found in too many texts that have nothing to do with them.
const SHORTEST: usize = 12;
/// Fields of `data` with what is public by its nature, and may well be the value of somebody's variable, too.
const PUBLIC: [&str; 7] = ["project", "repository", "server", "placement", "resources", "allocations", "modules"];

/// Where a message repeats one of its secrets, in words that don't repeat it again.
pub(super) fn find(incoming: &Incoming, secrets: &BTreeMap<VariableName, SecretString>) -> Option<String> {
    let values: Vec<&str> = secrets.values().map(ExposeSecret::expose_secret).filter(|v| is_telling(v)).collect();
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&incoming.body) else { return None };
    if values.is_empty() {
        return None;
    }
    let repeats = |text: &str| values.iter().any(|value| text.contains(value));
    let header = incoming.headers.iter().any(|(name, value)| repeats(name) || repeats(value));
    if header {
        return Some("an AMQP header".to_owned());
    }
    // In binary mode the body is what `data` is else.
    let (attributes, data) = match body.get("data") {
        Some(Value::Object(data)) if body.contains_key("specversion") => (Some(&body), data),
        _ => (None, &body),
    };
    let mut outside = attributes.into_iter().flatten().filter(|(name, _)| *name != "data");
    if outside.any(|(name, value)| repeats(name) || holds(value, &repeats)) {
        return Some("an attribute of the event".to_owned());
    }
    in_data(data, &repeats).map(|field| format!("/data/{field}"))
}

/// Whether a text holds one of the secrets.
pub(super) fn repeats(text: &str, secrets: &BTreeMap<VariableName, SecretString>) -> bool {
    secrets.values().map(ExposeSecret::expose_secret).any(|value| is_telling(value) && text.contains(value))
}

/// Whether a text that holds this value can hardly do so by chance: passwords and tokens, but no numbers such as a chat's,
/// no addresses, no plain words.
fn is_telling(value: &str) -> bool {
    let any = |kind: fn(char) -> bool| value.chars().any(kind);
    value.len() >= SHORTEST
        && any(|c| c.is_ascii_digit())
        && any(char::is_alphabetic)
        && !any(|c| c.is_whitespace() || c == '@')
        && !value.contains("://")
}

fn in_data<'d>(data: &'d Map<String, Value>, repeats: &dyn Fn(&str) -> bool) -> Option<&'d str> {
    data.iter().find_map(|(name, value)| {
        let found = match (name.as_str(), value) {
            (name, _) if PUBLIC.contains(&name) => false,
            // A variable's value goes to the project alone; what looks like a secret there was refused before.
            ("variables", Value::Object(variables)) => variables.keys().any(|name| repeats(name)),
            ("secrets", Value::Object(secrets)) => secrets.iter().any(|(name, source)| {
                repeats(name) || source.get("reference").is_some_and(|reference| holds(reference, repeats))
            }),
            (_, value) => holds(value, repeats),
        };
        if repeats(name) { Some("?") } else { found.then_some(if is_plain(name) { name.as_str() } else { "?" }) }
    })
}

fn is_plain(name: &str) -> bool {
    name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn holds(value: &Value, repeats: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => repeats(text),
        Value::Array(items) => items.iter().any(|item| holds(item, repeats)),
        Value::Object(map) => map.iter().any(|(key, value)| repeats(key) || holds(value, repeats)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    type Edit = fn(&mut Value);

    fn found(secret: &str, edit: impl FnOnce(&mut Value)) -> Option<String> {
        let mut event: Value =
            serde_json::from_slice(include_bytes!("../../../protocol/samples/project-ready.v1.json")).unwrap();
        edit(&mut event);
        let incoming = Incoming { body: event.to_string().into_bytes(), ..Incoming::default() };
        find(&incoming, &[(VariableName::new("A").unwrap(), secret.to_owned().into())].into())
    }

    #[test]
    fn a_secret_is_found_where_it_would_be_kept_or_told() {
        let secret = "hunter2-hunter2";
        let rows: [(&str, Edit); 9] = [
            ("/data/correlation", |e| e["data"]["correlation"]["chat"] = json!(["see hunter2-hunter2!"])),
            ("/data/correlation", |e| e["data"]["correlation"]["hunter2-hunter2"] = json!(1)),
            ("/data/future", |e| e["data"]["future"] = json!({ "deep": ["hunter2-hunter2"] })),
            ("/data/?", |e| e["data"]["hunter2-hunter2"] = json!(1)),
            ("/data/variables", |e| e["data"]["variables"]["hunter2-hunter2"] = json!("x")),
            ("/data/secrets", |e| e["data"]["secrets"]["B"] = json!({ "reference": "hunter2-hunter2" })),
            ("/data/secrets", |e| e["data"]["secrets"]["hunter2-hunter2"] = json!({ "reference": "r" })),
            ("an attribute of the event", |e| e["subject"] = json!("hunter2-hunter2")),
            ("an attribute of the event", |e| e["extension"] = json!("hunter2-hunter2")),
        ];
        for (place, edit) in rows {
            assert_eq!(found(secret, edit).as_deref(), Some(place));
        }
        let incoming = Incoming {
            body: b"{}".to_vec(),
            headers: [("x-note".to_owned(), secret.to_owned())].into(),
            ..Incoming::default()
        };
        let secrets = [(VariableName::new("A").unwrap(), SecretString::from(secret))].into();
        assert_eq!(find(&incoming, &secrets).as_deref(), Some("an AMQP header"));
    }

    #[test]
    fn an_honest_request_may_repeat_what_is_no_secret_by_itself() {
        let all = |text: &'static str| {
            move |e: &mut Value| {
                e["data"]["correlation"]["x"] = json!(text);
                e["subject"] = json!(text);
            }
        };
        for public in
            ["-100123456789012", "shop_production", "short-1", "admin1@example.com", "https://shop1.example/hook"]
        {
            assert_eq!(found(public, all(public)), None, "{public}");
        }
        let variable = |e: &mut Value| e["data"]["variables"]["B"] = json!("corner-shop-prod-2");
        assert_eq!(found("corner-shop-prod-2", variable), None);
        let slug = |e: &mut Value| e["data"]["project"]["slug"] = json!("corner-shop-prod-2");
        assert_eq!(found("corner-shop-prod-2", slug), None);
    }
}
