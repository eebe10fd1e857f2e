//! One message on its way, and why it didn't get there.

use std::time::Duration;

use crate::notify::text::message_text::MessageText;

/// A message to one target of a channel.
pub(crate) struct MessageDelivery<'d> {
    /// The same at each try of the same events.
    pub(crate) id: String,
    /// To whom within the channel; empty: whom the channel itself names.
    pub(crate) target: &'d str,
    /// What is said.
    pub(crate) text: MessageText,
    /// The event as it came, where the message is about one alone.
    pub(crate) event: Option<&'d [u8]>,
}

/// Why a message didn't get there. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SendFailure {
    /// The other side takes no more for so long.
    Limited(Duration),
    /// The channel as a whole doesn't work; others would fail as well.
    Channel {
        problem: String,
        /// Whether it may have arrived all the same.
        maybe_told: bool,
    },
    /// This message isn't taken; others may be.
    Message { problem: String },
}

impl SendFailure {
    /// The channel doesn't work, and nothing has arrived.
    pub(crate) fn channel(problem: impl Into<String>) -> Self {
        Self::Channel { problem: problem.into(), maybe_told: false }
    }

    /// This message isn't taken.
    pub(crate) fn message(problem: impl Into<String>) -> Self {
        Self::Message { problem: problem.into() }
    }
}
