//! RabbitMQ through lapin, with none of its automatic recovery: a connection that fails is given up and the next
//! generation is built from nothing. What consumes and what publishes use separate connections, since a broker in
//! alarm stops reading from those that publish.
//!
//! What lapin calls success isn't always: see [`Publisher`] for returned messages and [`Subscription`] for streams that
//! end or hang. Nothing here knows about deployments.

mod connection;
mod death;
mod publisher;
mod subscription;
mod topology;

use std::time::Duration;

pub use connection::{Broker, Generations, Link, LinkState};
pub use death::Death;
pub use publisher::{PendingConfirm, PublishError, Publisher};
pub use subscription::{Delivered, Subscription, consume, subscribe};
pub use topology::{Problem, check, declare};

/// Longest time for connecting, and for any one answer of the broker.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A failure of the broker or of the connection to it. `Display` never repeats its source.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The connection URL or the CA file can't be used.
    #[error("SLIPWAY_AMQP_URL can't be used: {0}")]
    Url(String),
    /// The broker refused something, or the connection broke.
    #[error("the broker refused {what} or went away")]
    Broker {
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        source: lapin::Error,
    },
    /// The broker didn't answer in time.
    #[error("the broker didn't answer to {what} within {TIMEOUT:?}")]
    TimedOut {
        /// What was being done.
        what: &'static str,
    },
}

/// Bounds the wait for an answer: a frozen or blocked broker keeps its connections open.
async fn answer<T>(what: &'static str, work: impl Future<Output = lapin::Result<T>>) -> Result<T, AmqpError> {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(AmqpError::Broker { what, source }),
        Err(_) => Err(AmqpError::TimedOut { what }),
    }
}
