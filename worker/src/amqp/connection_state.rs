//! The state of a connection, as its owner and everybody who waits for an answer see it.

/// How a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// It works.
    Up,
    /// The broker is in alarm and takes no messages, for this reason.
    Blocked(String),
    /// It's gone, for this reason.
    Down(String),
}
