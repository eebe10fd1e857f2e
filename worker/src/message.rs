//! A message as it came and a message as it is to go: plain values between the broker ([`crate::amqp`]) and the
//! database ([`crate::store`]), which don't know each other.

use std::collections::BTreeMap;

use slipway_protocol::Metadata;

/// A message as the broker delivered it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The body, byte by byte.
    pub body: Vec<u8>,
    /// Property `content-type`.
    pub content_type: Option<String>,
    /// Headers whose values are text; no others are read or kept.
    pub headers: BTreeMap<String, String>,
    /// The exchange it was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
}

impl Incoming {
    /// What [`slipway_protocol::decode`] needs beside the body.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        Metadata { content_type: self.content_type.clone(), headers: self.headers.clone() }
    }
}

/// A message to be published: always persistent, mandatory and confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Exchange to publish to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Property `message-id`; a duplicate has the same.
    pub message_id: String,
    /// Property `type`: the event's type.
    pub event_type: String,
    /// Property `correlation-id`.
    pub correlation_id: Option<String>,
    /// Property `content-type`.
    pub content_type: Option<String>,
    /// Headers; `traceparent` is among them when there is one.
    pub headers: BTreeMap<String, String>,
    /// The body, byte by byte.
    pub body: Vec<u8>,
}
