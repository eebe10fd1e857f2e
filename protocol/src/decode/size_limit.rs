//! The size limit of a message, and what is still read of one that is too large: the ids that its result event needs.
//! Everything else is skipped without being stored. Refusing the message is done in `envelope`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Beyond this, in bytes, not even the ids are read, and no secrets are looked for.
pub(super) const MAX_SCANNED_BYTES: usize = 16 * 1024 * 1024;
/// The largest correlation, in bytes of JSON: it's echoed in every event about the request.
pub(super) const MAX_CORRELATION_BYTES: usize = 16 * 1024;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Envelope {
    id: Value,
    source: Value,
    #[serde(rename = "type")]
    event_type: Value,
    traceparent: Value,
    data: Data,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Data {
    project: Value,
    repository: Value,
    server: Value,
    correlation: Value,
}

/// The ids of an event, as an envelope that holds nothing else; `binary` has the attributes of one in binary mode.
pub(super) fn read_ids(body: &[u8], binary: Option<Map<String, Value>>) -> Option<Map<String, Value>> {
    if body.len() > MAX_SCANNED_BYTES {
        return None;
    }
    let mut envelope = match binary {
        Some(mut attributes) => {
            attributes
                .insert("data".to_owned(), serde_json::to_value(serde_json::from_slice::<Data>(body).ok()?).ok()?);
            attributes
        }
        None => match serde_json::to_value(serde_json::from_slice::<Envelope>(body).ok()?).ok()? {
            Value::Object(envelope) => envelope,
            _ => return None,
        },
    };
    let data = envelope.get_mut("data")?.as_object_mut()?;
    if data.get("correlation").is_some_and(|c| c.to_string().len() > MAX_CORRELATION_BYTES) {
        data.remove("correlation");
    }
    Some(envelope)
}
