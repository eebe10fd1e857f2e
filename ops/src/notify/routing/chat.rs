//! The chat that an event names in `data.correlation.chat`. Whoever may send requests chooses it, so it's believed only as far
//! as it has a chat's shape.

use serde_json::Value;
use slipway_protocol::Correlation;

/// Whether Telegram could know a chat by this: its number, or the name of a public one.
pub(super) fn is_chat(text: &str) -> bool {
    match text.strip_prefix('@') {
        Some(name) => (4..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
        None => text.parse::<i64>().is_ok_and(|number| number != 0 && number.to_string() == text),
    }
}

/// The chat, with a topic behind a slash where one is named: a number, a text, or an object with `id` and perhaps `topic`.
pub(super) fn chat_of(correlation: &Correlation) -> Option<String> {
    let text = |value: &Value| match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    let chat = correlation.get("chat")?;
    let (id, topic) = match chat {
        Value::Object(fields) => (text(fields.get("id")?)?, fields.get("topic").and_then(Value::as_u64)),
        other => (text(other)?, None),
    };
    is_chat(&id).then(|| topic.map_or(id.clone(), |topic| format!("{id}/{topic}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chat_may_be_a_number_a_name_or_an_object_with_a_topic() {
        let chat = |value: Value| chat_of(json!({ "chat": value }).as_object().unwrap());
        assert_eq!(chat(json!(-1001234)).as_deref(), Some("-1001234"));
        assert_eq!(chat(json!("77")).as_deref(), Some("77"));
        assert_eq!(chat(json!("@deployments")).as_deref(), Some("@deployments"));
        assert_eq!(chat(json!({ "id": -100, "topic": null })).as_deref(), Some("-100"));
        assert_eq!(chat(json!({ "id": -100, "topic": 7 })).as_deref(), Some("-100/7"));
        for nonsense in
            [json!(null), json!(""), json!(0), json!(1.5), json!("@a b"), json!("007"), json!([1]), json!({})]
        {
            assert_eq!(chat(nonsense.clone()), None, "{nonsense}");
        }
    }
}
