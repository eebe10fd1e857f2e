//! RabbitMQ through lapin, with none of its automatic recovery: a connection that fails is given up and the next
//! generation is built from nothing. What consumes and what publishes use separate connections, since a broker in
//! alarm stops reading from those that publish.
//!
//! What lapin calls success isn't always: see [`Publisher`] for returned messages and [`Subscription`] for streams that
//! end or hang. What it can't read is made readable before it comes there: see the module `inbound`. Nothing here knows
//! about deployments.

mod address;
pub(crate) mod connection;
mod death;
mod inbound;
mod publisher;
mod subscription;
mod topology;

use std::time::Duration;

use tokio::sync::watch;

pub use address::{BrokerAddress, NotAnAddress};
pub use connection::{BrokerConnection, BrokerEndpoints, ConnectionGenerations, ConnectionState};
pub use death::XDeath;
pub use publisher::{PendingConfirm, PublishError, Publisher};
pub use subscription::{Delivered, Subscription, consume, subscribe};
pub use topology::{QueueState, TopologyProblem, check, declare, queues};

/// Longest time for any one answer of the broker.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for connecting to one address, login included.
pub const CONNECT: Duration = Duration::from_secs(5);

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
        /// Why.
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

/// The addresses with the reasons, sources included: several chains can't be one.
fn reasons(refused: &[(String, AmqpError)]) -> String {
    let reason = |(address, error): &(String, AmqpError)| {
        let mut reason = format!("{address}: {error}");
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            reason.push_str(&format!(": {error}"));
            source = error.source();
        }
        reason
    };
    refused.iter().map(reason).collect::<Vec<_>>().join("; ")
}

/// Bounds the wait for an answer: a frozen or blocked broker keeps its connections open.
async fn answer<T>(what: &'static str, work: impl Future<Output = lapin::Result<T>>) -> Result<T, AmqpError> {
    answer_within(TIMEOUT, what, work).await
}

async fn answer_within<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(AmqpError::Broker { what, source }),
        Err(_) => Err(AmqpError::TimedOut { what, limit }),
    }
}

/// As [`answer`], with a clock that stands still while the broker is in alarm: then it does answer, later.
async fn answer_when_unblocked<T>(
    mut state: watch::Receiver<ConnectionState>,
    what: &'static str,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    let is_blocked = |state: &ConnectionState| matches!(state, ConnectionState::Blocked(_));
    let overdue = async {
        loop {
            let alarm = tokio::time::timeout(TIMEOUT, state.wait_for(is_blocked)).await;
            let Ok(begun) = alarm.map(|told| told.is_ok()) else { return };
            if !begun || state.wait_for(|state| !is_blocked(state)).await.is_err() {
                // The connection has ended, and who tells of alarms with it: the work is about to say why.
                return tokio::time::sleep(TIMEOUT).await;
            }
        }
    };
    tokio::select! {
        answered = work => answered.map_err(|source| AmqpError::Broker { what, source }),
        () = overdue => Err(AmqpError::TimedOut { what, limit: TIMEOUT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_ends_is_told_by_what_was_asked_and_is_no_late_answer() {
        for last in [ConnectionState::Up, ConnectionState::Blocked("memory".to_owned())] {
            let (told, state) = watch::channel(last);
            drop(told);
            let refused = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err::<(), _>(lapin::ErrorKind::InvalidChannel(1).into())
            };
            let refused = answer_when_unblocked(state, "a message", refused).await;
            assert!(matches!(refused, Err(AmqpError::Broker { .. })), "{refused:?}");
        }
    }
}
