//! RabbitMQ through lapin, without its automatic recovery: a connection that fails is closed, and a new one is built
//! from nothing (`generations`). Consumers and publishers use separate connections, since a broker in alarm stops
//! reading from those that publish.
//!
//! Not everything that lapin calls success is one: see [`Publisher`] for returned messages and [`Subscription`] for
//! streams that end or hang. Bytes that lapin can't read are repaired before they reach it: see `inbound`. Nothing here
//! knows about deployments.

mod address;
mod answer;
pub(crate) mod connection;
mod connection_state;
mod death;
mod error;
mod frame;
mod generations;
mod inbound;
mod publisher;
mod queue_head;
mod subscription;
mod topology;

pub use address::{BrokerAddress, NotAnAddress};
pub use answer::{CONNECT, TIMEOUT};
pub use connection::{BrokerConnection, BrokerEndpoints};
pub use connection_state::ConnectionState;
pub use death::XDeath;
pub use error::AmqpError;
pub use generations::ConnectionGenerations;
pub use publisher::{PendingConfirm, PublishError, Publisher};
pub use queue_head::{HeadMessage, QueueHead};
pub use subscription::{Delivered, Subscription, consume, consume_events, subscribe};
pub use topology::{QueueState, TopologyProblem, check, declare, queue, queue_exists, queues};
