//! A message on its way from the queue into the database.

use std::sync::Arc;

use slipway_protocol::{Message, Rejection};
use tracing::Span;

use crate::message::Incoming;

/// A message, and what could be read of it.
pub(super) type ReadMessage = Arc<(Result<Message, Rejection>, Incoming)>;

/// A message that was delivered and decoded.
pub(super) struct Arrived {
    pub message: ReadMessage,
    pub span: Span,
    /// Whether others of its project can't be taken in for now.
    pub is_failing: bool,
}
