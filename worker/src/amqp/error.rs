//! What can go wrong with the broker. Why a single message isn't published is in `publisher`.

use std::time::Duration;

/// A failure of the broker or of the connection to it. `Display` never repeats its source.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The connection URL or the CA file can't be used.
    #[error("SLIPWAY_AMQP_URL can't be used: {0}")]
    Url(String),
    /// None of the addresses could be connected to; each with its reason.
    #[error("no connection to {}", reasons(.0))]
    Unreachable(Vec<(String, AmqpError)>),
    /// The broker's certificate isn't trusted.
    #[error("the broker's certificate isn't trusted; SLIPWAY_CA_FILE names authorities to trust beside the system's")]
    Certificate(#[source] lapin::Error),
    /// The broker refused something, or the connection broke.
    #[error("the broker refused {what} or went away")]
    Broker {
        /// What was being done.
        what: &'static str,
        /// The client library's error, with the broker's reply code where there is one.
        #[source]
        source: lapin::Error,
    },
    /// Something of the topology is there with other settings than the table's.
    #[error("{what} is on the broker with other settings than Slipway's; `slipway topology check` says what to do")]
    Differs {
        /// `queue slipway.deployments`.
        what: String,
        /// The broker's words.
        #[source]
        source: lapin::Error,
    },
    /// The broker didn't answer in time.
    #[error("the broker didn't answer to {what} within {limit:?}")]
    TimedOut {
        /// What was being done.
        what: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection to the broker is gone: {0}")]
    Down(String),
}

impl AmqpError {
    /// The error and what caused it, in one line.
    #[must_use]
    pub fn with_sources(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(&format!(": {error}"));
            source = error.source();
        }
        text
    }

    /// Whether the broker, or its client, says that it can't take what was sent: too large, or against AMQP's rules.
    /// Anything else may be better at the next try.
    #[must_use]
    pub fn blames_message(&self) -> bool {
        let Self::Broker { source, .. } = self else { return false };
        match source.kind() {
            lapin::ErrorKind::SerialisationError(_) => true,
            // Content too large, precondition failed, and errors of frame, syntax, command and order.
            lapin::ErrorKind::ProtocolError(error) => matches!(error.get_id(), 311 | 406 | 501..=503 | 505),
            _ => false,
        }
    }
}

/// The addresses with the reasons, sources included: several chains can't be one.
fn reasons(refused: &[(String, AmqpError)]) -> String {
    let reason = |(address, error): &(String, AmqpError)| format!("{address}: {}", error.with_sources());
    refused.iter().map(reason).collect::<Vec<_>>().join("; ")
}
