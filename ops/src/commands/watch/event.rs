//! One event of a deployment, read from the outbox. An event that this version doesn't know is kept as JSON and
//! not shown to people.

use jiff::Timestamp;
use serde_json::Value;
use slipway_protocol::{CloudEvent, DeploymentResult, EventType, Progress};

/// An event that was published, or waits for it.
pub(crate) struct Event {
    pub(crate) time: Option<Timestamp>,
    pub(crate) body: EventBody,
    /// The event as it was sent.
    pub(crate) json: Value,
}

pub(crate) enum EventBody {
    Progress(Box<Progress>),
    Result(Box<DeploymentResult>),
    /// A type of event that only a later version knows.
    Unknown,
}

impl Event {
    pub(crate) fn read(event: Value) -> Self {
        let of_type = |t: EventType| event.get("type").and_then(Value::as_str) == Some(t.as_str());
        let body = if of_type(EventType::Progress) {
            parse_data(&event).map_or(EventBody::Unknown, |progress| EventBody::Progress(Box::new(progress)))
        } else if of_type(EventType::Result) {
            parse_data(&event).map_or(EventBody::Unknown, |result| EventBody::Result(Box::new(result)))
        } else {
            EventBody::Unknown
        };
        let time = event.get("time").and_then(Value::as_str).and_then(|t| t.parse().ok());
        Self { time, body, json: event }
    }
}

fn parse_data<T: serde::de::DeserializeOwned>(event: &Value) -> Option<T> {
    serde_json::from_value::<CloudEvent<T>>(event.clone()).ok().map(|event| event.data)
}
