//! Messages that never became a deployment: refused by a worker, or given up by the broker.

use slipway_protocol::{Failure, PartialEnvelope};
use uuid::Uuid;

use crate::message::Incoming;

/// A message that can't become a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedMessage {
    /// The code, class and message, as in the result.
    pub failure: Failure,
    /// What could be read of it.
    pub known: PartialEnvelope,
    /// Whether its body holds a secret in plain text, which neither a table nor the dead-letter queue may keep.
    pub withhold: bool,
}

/// A message from the dead-letter exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerDeadLetter {
    /// Why it was given up, and what could be read of it.
    pub refusal: RefusedMessage,
    /// The dead letter's reason.
    pub reason: &'static str,
    /// The message as it was published.
    pub incoming: Incoming,
    /// The ids that it has if a worker published it; none when the broker itself gave it up.
    pub published_as: Vec<Uuid>,
}
