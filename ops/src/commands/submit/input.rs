//! A file's bytes as the body of a message. What it says is checked by the protocol's `decode`, not here.

use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use slipway_protocol::{CloudEvent, EventType, MAX_MESSAGE_BYTES, ProjectReady, Request, without_byte_order_mark};

use crate::terminal::error::{CliError, CommandExit};

/// The bytes of `file`, and its name as it's shown; `-` is stdin.
pub(crate) fn read_input(file: &Path) -> Result<(String, Vec<u8>), CliError> {
    let stdin = file == Path::new("-");
    let name = if stdin { "stdin".to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    // One byte above the limit is enough to see that a file is too large, whatever its size.
    let limit = MAX_MESSAGE_BYTES as u64 + 1;
    let done = if stdin {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(limit).read_to_end(&mut bytes))
    };
    match done {
        Ok(_) => Ok((name, without_byte_order_mark(&bytes).to_vec())),
        Err(error) => Err(CliError::usage(format!("{name} can't be read: {error}"))
            .hint("give a file with a CloudEvent or its `data`, or `-` for stdin")),
    }
}

/// The event in `bytes`: untouched when it's an envelope, wrapped in one when it's only the `data`.
pub(super) fn wrap_bare_data(name: &str, bytes: Vec<u8>, source: &str, id: &str) -> Result<Vec<u8>, CliError> {
    let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(&bytes) else { return Ok(bytes) };
    let is_data = !map.contains_key("specversion") && (map.contains_key("project") || map.contains_key("repository"));
    if !is_data {
        return Ok(bytes);
    }
    let slug = map.get("project").and_then(|p| p.get("slug")).and_then(Value::as_str).map(str::to_owned);
    build_event(Value::Object(map), slug, source, id)
        .map_err(|e| CliError::new(CommandExit::Failed, format!("{name} can't be wrapped into an event: {e}")))
}

/// The event that asks for `request`.
pub(super) fn wrap_request(request: ProjectReady, source: &str, id: &str) -> Result<Vec<u8>, CliError> {
    let slug = Some(request.project.slug.to_string());
    build_event(request, slug, source, id)
        .map_err(|e| CliError::new(CommandExit::Failed, format!("the event can't be written as JSON: {e}")))
}

fn build_event<T: serde::Serialize>(
    data: T,
    subject: Option<String>,
    source: &str,
    id: &str,
) -> serde_json::Result<Vec<u8>> {
    let event = CloudEvent::new(EventType::ProjectReady, source, id, data);
    serde_json::to_vec(&CloudEvent { subject, time: Some(Timestamp::now()), ..event })
}

/// Refuses fields of `data` that nobody would read: the workers tolerate them, but in a person's file they are typos.
pub(super) fn refuse_unread_fields(name: &str, body: &[u8], request: &Request) -> Result<(), CliError> {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    let read = serde_json::to_value(&request.event.data).unwrap_or_default();
    let Some(sent) = sent.get("data") else { return Ok(()) };
    match find_unread_field(sent, &read, "/data") {
        None => Ok(()),
        Some(pointer) => Err(CliError::usage(format!("{name}: {pointer} isn't a field of this event")).hint(
            "compare it with the JSON Schema of slipway.project.ready.v1; opaque ids belong into /data/correlation",
        )),
    }
}

/// The first field of `sent` that `read` doesn't have. What is null or empty may be left out.
fn find_unread_field(sent: &Value, read: &Value, at: &str) -> Option<String> {
    match (sent, read) {
        (Value::Object(sent), Value::Object(read)) => sent.iter().find_map(|(key, value)| {
            let at = format!("{at}/{key}");
            match read.get(key) {
                Some(read) => find_unread_field(value, read, &at),
                None => (!is_empty(value)).then_some(at),
            }
        }),
        (Value::Array(sent), Value::Array(read)) => sent
            .iter()
            .zip(read)
            .enumerate()
            .find_map(|(i, (sent, read))| find_unread_field(sent, read, &format!("{at}/{i}"))),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_fields_that_say_something_and_that_nobody_reads_are_found() {
        let read = json!({ "project": { "slug": "shop" }, "allocations": [{ "service": "backend" }] });
        let find = |sent: Value| find_unread_field(&sent, &read, "/data");
        assert_eq!(find(read.clone()), None);
        assert_eq!(find(json!({ "project": { "slug": "shop" }, "variables": {}, "sequence": null })), None);
        assert_eq!(find(json!({ "project": { "slugg": "shop" } })).as_deref(), Some("/data/project/slugg"));
        assert_eq!(find(json!({ "allocations": [{ "port": 1 }] })).as_deref(), Some("/data/allocations/0/port"));
    }
}
