//! A dead letter's body as it may be shown. The event was refused or failed, so nothing about it is taken for granted:
//! values of variables, and anything in `secrets` that isn't a sealed box or a reference, are left out.

use std::collections::BTreeMap;

use serde_json::Value;

const WITHHELD: &str = "(withheld)";

/// The body, or nothing when it isn't JSON.
pub(crate) fn redact_body(bytes: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    redact_value(&mut value);
    Some(value)
}

/// Headers as they may be shown: those of CloudEvents, of tracing and of Slipway in full, the names of others.
pub(crate) fn redact_headers(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const SHOWN_PREFIXES: [&str; 7] = ["cloudEvents_", "cloudEvents:", "ce-", "trace", "slipway-", "dlq-", "x-"];
    let shown = |name: &str, value: &str| {
        if SHOWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            value.to_owned()
        } else {
            WITHHELD.to_owned()
        }
    };
    headers.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
}

fn redact_value(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("secrets", Value::Object(secrets)) => secrets.values_mut().for_each(redact_secret),
                    ("variables", Value::Object(variables)) => variables.values_mut().for_each(withhold),
                    ("secrets" | "variables", other) => withhold(other),
                    (_, other) => redact_value(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_value),
        _ => {}
    }
}

/// A sealed box and a reference reveal nothing. Any other value may be a secret in plain text.
fn redact_secret(value: &mut Value) {
    let is_source = serde_json::from_value::<slipway_protocol::SecretSource>(value.clone()).is_ok();
    if !is_source {
        withhold(value);
    }
}

fn withhold(value: &mut Value) {
    *value = Value::String(WITHHELD.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_sealed_boxes_and_references_are_shown() {
        let sealed = json!({ "sealed": { "key_id": "k", "sealed_box": "A".repeat(64) } });
        let event = json!({ "data": {
            "project": { "slug": "shop" },
            "variables": { "APP_NAME": "hunter2" },
            "secrets": { "A": sealed, "B": { "reference": "shop.b" }, "C": "hunter2", "D": { "value": "hunter2" } },
        } });
        let shown = redact_body(event.to_string().as_bytes()).unwrap_or_default();
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["data"]["secrets"]["A"], sealed);
        assert_eq!(shown["data"]["secrets"]["B"]["reference"], "shop.b");
        assert_eq!(shown["data"]["project"]["slug"], "shop");
    }

    #[test]
    fn a_body_that_is_no_json_is_not_shown() {
        assert_eq!(redact_body(b"password=hunter2"), None);
    }
}
