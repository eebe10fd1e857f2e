//! From a message's bytes to a valid request, or to a typed rejection that tells as much as could be read.
//!
//! Both content modes of CloudEvents' AMQP binding are read. Nothing here looks at a clock: expiry is intake's job.

mod envelope;
mod named_secrets;
mod plaintext;
mod refusal;
mod request;
mod size_limit;
mod unique;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    CloudEvent, DeploymentCancel, ErrorCode, EventType, ProjectCommand, ProjectHalf, ProjectMove, ProjectReady,
    ProjectRollback, ProjectStart, ProjectStop, ProjectUndeploy, ServerCordon,
};
pub use envelope::is_attribute;
use envelope::opened;
use refusal::{DecodeFailure, broken, from_serde, pointer, refuse_at, unsupported};
pub use request::{Message, Metadata, PartialEnvelope, Rejection, Request};
pub use size_limit::MAX_MESSAGE_BYTES;

/// A body without the mark that some libraries put before UTF-8, and that JSON's readers may refuse.
#[must_use]
pub fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
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
            Message::Half(_) | Message::Command(_) | Message::Cancel(_) | Message::Cordon(_) => {
                Err(refuse_at(ErrorCode::UnsupportedType, "/type", "isn't slipway.project.ready.v1"))
            }
        }
    })
}

fn with_known<T>(read: impl FnOnce(&mut PartialEnvelope) -> Result<T, DecodeFailure>) -> Result<T, Rejection> {
    let mut known = PartialEnvelope::default();
    read(&mut known).map_err(|(code, pointer, message)| {
        plaintext::withhold(&mut known);
        Rejection { code, pointer, message, known: Box::new(known) }
    })
}

fn message(
    event_type: EventType,
    envelope: Map<String, Value>,
    replay: Option<Uuid>,
) -> Result<Message, DecodeFailure> {
    fn event<T: DeserializeOwned>(envelope: Map<String, Value>) -> Result<CloudEvent<T>, DecodeFailure> {
        serde_path_to_error::deserialize(Value::Object(envelope)).map_err(|e| {
            let pointer = pointer(e.path());
            from_serde(&pointer, &e.into_inner().to_string())
        })
    }
    fn command<T: DeserializeOwned + Into<ProjectCommand>>(
        envelope: Map<String, Value>,
        replay: Option<Uuid>,
    ) -> Result<Message, DecodeFailure> {
        let event = event::<T>(envelope)?.map(Into::into);
        event.data.check().map_err(broken)?;
        Ok(Message::Command(Box::new(Request { event, replay })))
    }
    fn has_ports(missing: Option<String>) -> Result<(), DecodeFailure> {
        let refused = |at: String| refuse_at(ErrorCode::MissingField, &at, "is required where the server is given");
        missing.map(refused).map_or(Ok(()), Err)
    }
    fn half(event: CloudEvent<ProjectHalf>, replay: Option<Uuid>) -> Result<Message, DecodeFailure> {
        has_ports(event.data.missing_port())?;
        event.data.check().map_err(broken)?;
        Ok(Message::Half(Box::new(Request { event, replay })))
    }
    match event_type {
        EventType::EngineeringDone => half(event(envelope)?.map(ProjectHalf::Engineering), replay),
        EventType::ResourcesAllocated => half(event(envelope)?.map(ProjectHalf::Resources), replay),
        EventType::ProjectStop => command::<ProjectStop>(envelope, replay),
        EventType::ProjectStart => command::<ProjectStart>(envelope, replay),
        EventType::ProjectRollback => command::<ProjectRollback>(envelope, replay),
        EventType::ProjectUndeploy => command::<ProjectUndeploy>(envelope, replay),
        EventType::ProjectMove => command::<ProjectMove>(envelope, replay),
        EventType::DeploymentCancel => {
            let event = event::<DeploymentCancel>(envelope)?;
            event.data.check().map_err(broken)?;
            Ok(Message::Cancel(Box::new(Request { event, replay })))
        }
        EventType::ServerCordon => {
            let event = event::<ServerCordon>(envelope)?;
            event.data.check().map_err(broken)?;
            Ok(Message::Cordon(Box::new(Request { event, replay })))
        }
        EventType::ProjectReady => {
            let event = event::<ProjectReady>(envelope)?;
            has_ports(event.data.missing_port())?;
            event.data.check().map_err(broken)?;
            Ok(Message::Ready(Box::new(Request { event, replay })))
        }
        EventType::Progress | EventType::Result => Err(unsupported()),
    }
}
