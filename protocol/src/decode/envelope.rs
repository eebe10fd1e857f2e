//! The envelope of an event as one JSON object, whichever mode it came in, and its attributes.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::plaintext;
use super::refusal::{DecodeFailure, PLAINTEXT_RULE, refuse, refuse_at, shown, unsupported};
use super::request::{Metadata, PartialEnvelope};
use super::size_limit::{self, MAX_CORRELATION_BYTES, MAX_MESSAGE_BYTES};
use super::unique;
use crate::topology::REPLAY_HEADER;
use crate::{CONTENT_TYPE, ErrorCode, EventType};

/// How a body begins that gzip has compressed.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// By this the error of JSON is recognised that would take too much of the stack.
const TOO_DEEP: &str = "recursion limit exceeded";

/// The envelope of an event whose type is handled here, with its attributes checked.
pub(super) fn opened(
    body: &[u8],
    metadata: &Metadata,
    known: &mut PartialEnvelope,
) -> Result<(EventType, Map<String, Value>), DecodeFailure> {
    if let Some(replay) = metadata.headers.get(REPLAY_HEADER) {
        let malformed = |_| refuse(ErrorCode::InvalidField, format!("header {REPLAY_HEADER} must be a UUID"));
        known.replay = Some(replay.parse().map_err(malformed)?);
    }
    let binary = binary_attributes(body, metadata);
    if let Some(header) = plaintext::in_headers(metadata) {
        if let Ok(envelope) = envelope(body, binary, metadata) {
            remember(&envelope, known);
        }
        let header = shown(header);
        return Err(refuse(ErrorCode::PlaintextSecret, format!("the AMQP header {header} {PLAINTEXT_RULE}")));
    }
    if let Some(attributes) = &binary {
        // They can be read whatever the body is.
        remember(attributes, known);
    }
    if body.len() > MAX_MESSAGE_BYTES {
        if let Some(ids) = size_limit::read_ids(body, binary) {
            remember(&ids, known);
        }
        if body.len() <= size_limit::MAX_SCANNED_BYTES && plaintext::is_in_bytes(body) {
            return Err(unread(PLAINTEXT_RULE));
        }
        return Err(refuse(
            ErrorCode::MessageTooLarge,
            format!("the body has {} bytes, more than {MAX_MESSAGE_BYTES}", body.len()),
        ));
    }
    let envelope = envelope(body, binary, metadata)?;
    remember(&envelope, known);
    if let Some(pointer) = plaintext::find(&envelope, shown) {
        plaintext::withhold_repeated(&envelope, known);
        return Err(refuse_at(ErrorCode::PlaintextSecret, &pointer, PLAINTEXT_RULE));
    }
    attributes(&envelope)?;
    if let Err(failure) = correlation(&envelope) {
        known.correlation.clear();
        return Err(failure);
    }
    let event_type = envelope.get("type").and_then(Value::as_str).unwrap_or_default();
    Ok((request_type(event_type)?, envelope))
}

/// The attributes of an event in binary mode, which stand in the headers; `None` in structured mode.
fn binary_attributes(body: &[u8], metadata: &Metadata) -> Option<Map<String, Value>> {
    let mut attributes = Map::new();
    for (name, text) in &metadata.headers {
        if let Some(attribute) = attribute_name(name) {
            let attribute = attribute.to_ascii_lowercase();
            let text = if attribute == "time" { written_time(text) } else { text.clone() };
            attributes.insert(attribute, Value::String(text));
        }
    }
    let has_envelope = attributes.contains_key("specversion");
    let told = metadata.content_type.as_deref().filter(|told| !told.trim().is_empty());
    let media_type = match told {
        Some(told) => told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase(),
        None if has_envelope && !is_event(body) => "application/json".to_owned(),
        None => CONTENT_TYPE.to_owned(),
    };
    let is_binary = media_type != CONTENT_TYPE && has_envelope;
    attributes.insert("datacontenttype".to_owned(), Value::String(media_type));
    is_binary.then_some(attributes)
}

/// Whether a body is an event by itself, whatever stands in the headers.
fn is_event(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "specversion")]
        _version: IgnoredAny,
    }
    serde_json::from_slice::<Event>(body).is_ok()
}

/// The attribute of an event that a header of this name holds.
fn attribute_name(header: &str) -> Option<&str> {
    ["cloudEvents_", "cloudEvents:", "ce-"].iter().find_map(|prefix| header.strip_prefix(prefix))
}

/// Whether a header of this name holds an attribute of an event in binary mode, whatever the type of its value.
#[must_use]
pub fn is_attribute(header: &str) -> bool {
    attribute_name(header).is_some()
}

/// A time as RFC 3339 writes it, of a count since 1970 too: AMQP's own timestamps are seconds, other libraries count
/// milliseconds, or seconds with a fraction. What is none of them stays, and is refused where it's read.
fn written_time(text: &str) -> String {
    /// So many seconds are the year 5138, so many milliseconds 1973.
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    let time = whole.parse().ok().filter(|_| is_fraction).and_then(|count: i64| match count {
        MILLISECONDS_FROM.. => Timestamp::from_millisecond(count).ok(),
        0.. => Timestamp::new(count, format!("{fraction:0<9}")[..9].parse().ok()?).ok(),
        _ => Timestamp::from_second(count).ok(),
    });
    time.map_or_else(|| text.to_owned(), |time| time.to_string())
}

/// The envelope as one JSON object, whichever mode it came in.
fn envelope(
    body: &[u8],
    binary: Option<Map<String, Value>>,
    metadata: &Metadata,
) -> Result<Map<String, Value>, DecodeFailure> {
    let value = unique::from_slice(body).map_err(|e| match (e.line(), e.column()) {
        _ if plaintext::is_in_bytes(body) => unread(PLAINTEXT_RULE),
        (line, column) if e.to_string().starts_with(unique::TWICE) => {
            refuse(ErrorCode::InvalidField, format!("the body names a field twice (line {line}, column {column})"))
        }
        (line, column) if e.to_string().starts_with(unique::OUT_OF_RANGE) => refuse(
            ErrorCode::InvalidField,
            format!("the body holds a number that no database keeps (line {line}, column {column})"),
        ),
        (line, column) if e.to_string().starts_with(TOO_DEEP) => refuse(
            ErrorCode::NotJson,
            format!("the body is nested deeper than 127 objects and arrays (line {line}, column {column})"),
        ),
        _ if body.starts_with(GZIP) => refuse(ErrorCode::NotJson, "the body is compressed, which isn't undone here"),
        (line, column) => refuse(ErrorCode::NotJson, format!("the body isn't JSON (line {line}, column {column})")),
    })?;
    if let Some(mut attributes) = binary {
        attributes.insert("data".to_owned(), value);
        return Ok(attributes);
    }
    let Value::Object(mut map) = value else {
        return Err(refuse(ErrorCode::NotACloudEvent, "the body is JSON but not an object"));
    };
    // The trace context may stand in the AMQP headers alone.
    for name in ["traceparent", "tracestate"] {
        if let (false, Some(text)) = (map.contains_key(name), metadata.headers.get(name)) {
            map.insert(name.to_owned(), Value::String(text.clone()));
        }
    }
    Ok(map)
}

/// A body that wasn't read as an event, and holds a secret all the same.
fn unread(rule: &str) -> DecodeFailure {
    refuse(ErrorCode::PlaintextSecret, format!("the body {rule}"))
}

/// What is echoed in every event of a deployment has its limit.
fn correlation(envelope: &Map<String, Value>) -> Result<(), DecodeFailure> {
    let correlation = envelope.get("data").and_then(|data| data.get("correlation"));
    if correlation.is_some_and(|correlation| correlation.to_string().len() > MAX_CORRELATION_BYTES) {
        let rule = format!("must be at most {MAX_CORRELATION_BYTES} bytes of JSON");
        return Err(refuse_at(ErrorCode::InvalidField, "/data/correlation", &rule));
    }
    Ok(())
}

/// Keeps what can be read, so that even a refused request gets its result event.
fn remember(envelope: &Map<String, Value>, known: &mut PartialEnvelope) {
    let text = |name: &str| envelope.get(name).and_then(Value::as_str).filter(|v| attribute(v)).map(str::to_owned);
    known.source = text("source");
    known.id = text("id");
    known.event_type = text("type");
    known.traceparent = text("traceparent");
    let Some(data) = envelope.get("data") else { return };
    known.project = data.get("project").and_then(|v| serde_json::from_value(v.clone()).ok());
    known.repository = data.pointer("/repository/name").and_then(|v| serde_json::from_value(v.clone()).ok());
    known.commit = data.pointer("/repository/commit").and_then(|v| serde_json::from_value(v.clone()).ok());
    // A deployment describes its server, a command only names it.
    let server = data.pointer("/server/handle").or_else(|| data.get("server"));
    known.server = server.and_then(|v| serde_json::from_value(v.clone()).ok());
    if let Some(Value::Object(correlation)) = data.get("correlation") {
        known.correlation = correlation.clone();
    }
}

/// CloudEvents attributes are printable text; ours are at most 200 bytes. U+FFFD stands for what a header has that
/// isn't UTF-8, and two ids that differ only in that would be taken for one.
fn attribute(value: &str) -> bool {
    let unprintable = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
    !value.is_empty() && value.len() <= 200 && !value.chars().any(unprintable)
}

fn attributes(envelope: &Map<String, Value>) -> Result<(), DecodeFailure> {
    for name in ["specversion", "id", "source", "type"] {
        match envelope.get(name) {
            Some(Value::String(v)) if attribute(v) => {}
            Some(Value::String(_)) => {
                return Err(refuse_at(
                    ErrorCode::InvalidField,
                    &format!("/{name}"),
                    "must be 1 to 200 printable characters",
                ));
            }
            Some(_) => return Err(refuse_at(ErrorCode::InvalidField, &format!("/{name}"), "must be text")),
            None => {
                return Err(refuse_at(
                    ErrorCode::NotACloudEvent,
                    &format!("/{name}"),
                    "is required by CloudEvents 1.0",
                ));
            }
        }
    }
    if envelope.get("specversion").and_then(Value::as_str) != Some("1.0") {
        return Err(refuse_at(ErrorCode::UnsupportedVersion, "/specversion", "must be 1.0"));
    }
    match envelope.get("subject") {
        Some(Value::String(subject)) if !attribute(subject) => {
            return Err(refuse_at(ErrorCode::InvalidField, "/subject", "must be 1 to 200 printable characters"));
        }
        _ => {}
    }
    // Years with a sign are ISO 8601's alone, and reach further than databases do.
    if envelope.get("time").and_then(Value::as_str).is_some_and(|time| time.starts_with(['-', '+'])) {
        return Err(refuse_at(ErrorCode::InvalidField, "/time", "must be a time as RFC 3339 writes it"));
    }
    match envelope.get("datacontenttype") {
        None | Some(Value::Null) => {}
        Some(Value::String(v))
            if v.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json")) => {}
        Some(_) => return Err(refuse_at(ErrorCode::InvalidField, "/datacontenttype", "must be application/json")),
    }
    if envelope.get("data_base64").is_some_and(|data| !data.is_null()) {
        return Err(refuse_at(ErrorCode::InvalidField, "/data_base64", "must be absent: data is JSON here"));
    }
    if !envelope.contains_key("data") {
        return Err(refuse_at(ErrorCode::MissingField, "/data", "is required"));
    }
    Ok(())
}

/// The type of request of this name.
fn request_type(name: &str) -> Result<EventType, DecodeFailure> {
    let mut requests = EventType::ALL.into_iter().filter(|t| t.action().is_some());
    if let Some(found) = EventType::named(name).filter(|t| t.action().is_some()) {
        return Ok(found);
    }
    let versionless = |t: &str| t.rsplit_once(".v").map(|(name, _)| name.to_owned());
    if versionless(name).is_some() && requests.any(|t| versionless(t.as_str()) == versionless(name)) {
        return Err(refuse_at(ErrorCode::UnsupportedVersion, "/type", "has a version that isn't known here; v1 is"));
    }
    Err(unsupported())
}
