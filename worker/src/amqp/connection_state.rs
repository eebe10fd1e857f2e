//! The state of a connection, as its owner and everybody who waits for an answer see it.

/// Whether a connection to the broker can be used, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// It's open, and the broker takes messages.
    Up,
    /// The broker is in alarm and takes no messages, for this reason.
    Blocked(String),
    /// It's gone, for this reason.
    Down(String),
}
