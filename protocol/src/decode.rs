//! From a message's bytes to a valid request, or to a typed rejection that tells as much as could be read.
//!
//! Both content modes of CloudEvents' AMQP binding are read. Nothing here looks at a clock: expiry is intake's job.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::names::{CommitSha, RepositoryName, ServerHandle};
use crate::secret::PLAINTEXT;
use crate::too_large;
use crate::{
    Action, CONTENT_TYPE, CloudEvent, Correlation, DeploymentCancel, DeploymentId, ErrorCode, EventType, Project,
    ProjectCommand, ProjectReady, ProjectRollback, ProjectStart, ProjectStop, ProjectUndeploy, plaintext,
};

/// The largest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// What AMQP says about a message beside its body.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// The property `content-type`.
    pub content_type: Option<String>,
    /// Headers whose values are text.
    pub headers: BTreeMap<String, String>,
}

/// A valid request, with its envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<T = ProjectReady> {
    /// The event as it was sent.
    pub event: CloudEvent<T>,
    /// Set when an operator replayed the request.
    pub replay: Option<Uuid>,
}

/// Any valid request.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Deploy a project.
    Ready(Box<Request>),
    /// Do something else with a project.
    Command(Box<Request<ProjectCommand>>),
    /// Call a deployment off.
    Cancel(Box<Request<DeploymentCancel>>),
}

impl<T> Request<T> {
    /// The deployment that this request asks for: what is done to a project is one, whatever it is.
    #[must_use]
    pub fn deployment_id(&self) -> DeploymentId {
        DeploymentId::of(&self.event.source, &self.event.id, self.replay)
    }
}

/// Header that carries the id of a replay.
pub(crate) const REPLAY_HEADER: &str = "slipway-replay-id";

/// Why a message was refused, with whatever could be read of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The code.
    pub code: ErrorCode,
    /// JSON pointer of the field, where there is one.
    pub pointer: Option<String>,
    /// What is wrong; never repeats a value.
    pub message: String,
    /// What could be read all the same.
    pub known: Box<Known>,
}

/// What could be read of a message that was refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// CloudEvents `source`.
    pub source: Option<String>,
    /// CloudEvents `id`.
    pub id: Option<String>,
    /// The replay that sent it.
    pub replay: Option<Uuid>,
    /// CloudEvents `type`.
    pub event_type: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Which project.
    pub project: Option<Project>,
    /// Which repository.
    pub repository: Option<RepositoryName>,
    /// Which commit.
    pub commit: Option<CommitSha>,
    /// Which server.
    pub server: Option<ServerHandle>,
    /// The request's opaque ids.
    pub correlation: Correlation,
}

impl Known {
    /// What was asked for, as far as the type tells; else a deployment.
    #[must_use]
    pub fn action(&self) -> Action {
        self.event_type.as_deref().and_then(EventType::named).and_then(EventType::action).unwrap_or_default()
    }

    /// The deployment that the message would have asked for; a result event needs it.
    #[must_use]
    pub fn deployment_id(&self) -> Option<DeploymentId> {
        Some(DeploymentId::of(self.source.as_deref()?, self.id.as_deref()?, self.replay))
    }
}

/// Reads one message, whatever it asks for.
///
/// # Errors
/// A [`Rejection`] whose message names the field and the rule and never repeats a value.
pub fn read(body: &[u8], metadata: &Metadata) -> Result<Message, Rejection> {
    with_known(|known| {
        let (event_type, envelope) = opened(body, metadata, known)?;
        message(event_type, envelope, known.replay)
    })
}

/// Reads a request to deploy a project; any other request is refused.
///
/// # Errors
/// As for [`read`].
pub fn decode(body: &[u8], metadata: &Metadata) -> Result<Request, Rejection> {
    with_known(|known| {
        let (event_type, envelope) = opened(body, metadata, known)?;
        match message(event_type, envelope, known.replay)? {
            Message::Ready(request) => Ok(*request),
            Message::Command(_) | Message::Cancel(_) => {
                Err(refuse_at(ErrorCode::UnsupportedType, "/type", "isn't slipway.project.ready.v1"))
            }
        }
    })
}

fn with_known<T>(read: impl FnOnce(&mut Known) -> Result<T, Refused>) -> Result<T, Rejection> {
    let mut known = Known::default();
    read(&mut known).map_err(|(code, pointer, message)| Rejection { code, pointer, message, known: Box::new(known) })
}

type Refused = (ErrorCode, Option<String>, String);

fn refuse(code: ErrorCode, message: impl Into<String>) -> Refused {
    (code, None, message.into())
}

fn refuse_at(code: ErrorCode, pointer: &str, rule: &str) -> Refused {
    (code, Some(pointer.to_owned()), format!("{pointer} {rule}"))
}

/// The envelope of an event whose type is handled here, with its attributes checked.
fn opened(body: &[u8], metadata: &Metadata, known: &mut Known) -> Result<(EventType, Map<String, Value>), Refused> {
    if let Some(replay) = metadata.headers.get(REPLAY_HEADER) {
        let replay =
            replay.parse().map_err(|_| refuse(ErrorCode::InvalidField, "header slipway-replay-id must be a UUID"))?;
        known.replay = Some(replay);
    }
    let binary = binary_attributes(metadata);
    if let Some(attributes) = &binary {
        // They can be read whatever the body is.
        remember(attributes, known);
    }
    if body.len() > MAX_MESSAGE_BYTES {
        if let Some(ids) = too_large::ids(body, binary) {
            remember(&ids, known);
        }
        return Err(refuse(
            ErrorCode::MessageTooLarge,
            format!("the body has {} bytes, more than {MAX_MESSAGE_BYTES}", body.len()),
        ));
    }
    let envelope = envelope(body, binary, metadata)?;
    remember(&envelope, known);
    if let Some(pointer) = envelope.get("data").and_then(|data| plaintext::find(data, shown)) {
        return Err(refuse_at(ErrorCode::PlaintextSecret, &pointer, PLAINTEXT_RULE));
    }
    attributes(&envelope)?;
    let event_type = envelope.get("type").and_then(Value::as_str).unwrap_or_default();
    Ok((request_type(event_type)?, envelope))
}

fn message(event_type: EventType, envelope: Map<String, Value>, replay: Option<Uuid>) -> Result<Message, Refused> {
    fn event<T: DeserializeOwned>(envelope: Map<String, Value>) -> Result<CloudEvent<T>, Refused> {
        serde_path_to_error::deserialize(Value::Object(envelope)).map_err(|e| {
            let pointer = pointer(e.path());
            from_serde(&pointer, &e.into_inner().to_string())
        })
    }
    fn command<T: DeserializeOwned + Into<ProjectCommand>>(
        envelope: Map<String, Value>,
        replay: Option<Uuid>,
    ) -> Result<Message, Refused> {
        let event = event::<T>(envelope)?.map(Into::into);
        event.data.check().map_err(broken)?;
        Ok(Message::Command(Box::new(Request { event, replay })))
    }
    match event_type {
        EventType::ProjectStop => command::<ProjectStop>(envelope, replay),
        EventType::ProjectStart => command::<ProjectStart>(envelope, replay),
        EventType::ProjectRollback => command::<ProjectRollback>(envelope, replay),
        EventType::ProjectUndeploy => command::<ProjectUndeploy>(envelope, replay),
        EventType::DeploymentCancel => {
            let event = event::<DeploymentCancel>(envelope)?;
            event.data.check().map_err(broken)?;
            Ok(Message::Cancel(Box::new(Request { event, replay })))
        }
        EventType::ProjectReady => {
            let event = event::<ProjectReady>(envelope)?;
            event.data.check().map_err(broken)?;
            Ok(Message::Ready(Box::new(Request { event, replay })))
        }
        EventType::Progress | EventType::Result => Err(unsupported()),
    }
}

fn broken((pointer, rule): (String, String)) -> Refused {
    refuse_at(ErrorCode::InvalidField, &pointer, &rule)
}

/// The attributes of an event in binary mode, which stand in the headers; `None` in structured mode.
fn binary_attributes(metadata: &Metadata) -> Option<Map<String, Value>> {
    let media_type = metadata.content_type.as_deref().unwrap_or(CONTENT_TYPE);
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut attributes = Map::new();
    for (name, text) in &metadata.headers {
        let attribute = ["cloudEvents_", "cloudEvents:", "ce-"].iter().find_map(|p| name.strip_prefix(p));
        if let Some(attribute) = attribute {
            attributes.insert(attribute.to_ascii_lowercase(), Value::String(text.clone()));
        }
    }
    let is_binary = media_type != CONTENT_TYPE && attributes.contains_key("specversion");
    attributes.insert("datacontenttype".to_owned(), Value::String(media_type));
    is_binary.then_some(attributes)
}

/// The envelope as one JSON object, whichever mode it came in.
fn envelope(
    body: &[u8],
    binary: Option<Map<String, Value>>,
    metadata: &Metadata,
) -> Result<Map<String, Value>, Refused> {
    let value: Value = serde_json::from_slice(body).map_err(|e| {
        refuse(ErrorCode::NotJson, format!("the body isn't JSON (line {}, column {})", e.line(), e.column()))
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

/// Keeps what can be read, so that even a refused request gets its result event.
fn remember(envelope: &Map<String, Value>, known: &mut Known) {
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

/// CloudEvents attributes are printable text; ours are at most 200 bytes. U+FFFD stands for what a header has that isn't
/// UTF-8, and two ids that differ only in that would be taken for one.
fn attribute(value: &str) -> bool {
    let unprintable = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
    !value.is_empty() && value.len() <= 200 && !value.chars().any(unprintable)
}

fn attributes(envelope: &Map<String, Value>) -> Result<(), Refused> {
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
    if !envelope.contains_key("data") {
        return Err(refuse_at(ErrorCode::MissingField, "/data", "is required"));
    }
    Ok(())
}

/// The type of request of this name.
fn request_type(name: &str) -> Result<EventType, Refused> {
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

fn unsupported() -> Refused {
    refuse_at(ErrorCode::UnsupportedType, "/type", "isn't a type of request that is handled here")
}

const PLAINTEXT_RULE: &str = "holds a secret in plain text; send it in /data/secrets as a sealed box or a reference";

/// A key as it may stand in a message: keys can be hostile too.
fn shown(key: &str) -> String {
    key.chars().take(100).map(|c| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '?' }).collect()
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", shown(key)),
            Segment::Enum { variant } => format!("/{}", shown(variant)),
            Segment::Unknown => "/?".to_owned(),
        })
        .collect()
}

/// Serde's messages repeat the offending value; this keeps the rule and drops the value.
fn from_serde(pointer: &str, message: &str) -> Refused {
    if let Some(field) = message.strip_prefix("missing field `").and_then(|m| m.split('`').next()) {
        return refuse_at(ErrorCode::MissingField, &format!("{pointer}/{field}"), "is required");
    }
    if message.contains(PLAINTEXT) {
        return refuse_at(ErrorCode::PlaintextSecret, pointer, PLAINTEXT_RULE);
    }
    let rule =
        if message.starts_with("invalid ") || message.starts_with("unknown ") || message.starts_with("duplicate ") {
            match message.rsplit_once(", expected ") {
                Some((_, expected)) => format!("must be {expected}"),
                None => "is malformed".to_owned(),
            }
        } else {
            match message.find(" must ") {
                Some(at) => message[at + 1..].to_owned(),
                None => "is malformed".to_owned(),
            }
        };
    refuse_at(ErrorCode::InvalidField, pointer, &rule)
}
