//! The topology of the protocol's table, declared and checked. Bindings can be declared but not looked at over AMQP:
//! declaring them again is what makes sure of them.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use slipway_protocol::topology::{Argument, BINDINGS, EXCHANGES, Exchange, QUEUES, Queue};

use super::answer::answer;
use super::{AmqpError, BrokerConnection};

/// Something of the topology that isn't as the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyProblem {
    /// `exchange slipway.events`, `queue slipway.deployments`.
    pub what: String,
    /// The broker's words.
    pub reason: String,
}

/// Declares every exchange, queue and binding; what is there already must be the same.
///
/// # Errors
/// When the broker refuses (something of that name differs), is gone or doesn't answer. The channel is closed then.
pub async fn declare(channel: &Channel) -> Result<(), AmqpError> {
    for exchange in EXCHANGES {
        let declared = declare_exchange(channel, exchange, false).await;
        declared.map_err(|error| differing("exchange", exchange.name, error))?;
    }
    for queue in QUEUES {
        let declared = declare_queue(channel, queue, false).await;
        declared.map_err(|error| differing("queue", queue.name, error))?;
    }
    for binding in BINDINGS {
        let bind = channel.queue_bind(
            binding.queue.into(),
            binding.exchange.into(),
            binding.pattern.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        answer("a binding", bind).await?;
    }
    Ok(())
}

/// Makes the refusal of other settings (406) an error of its own; all others stay as they are.
fn differing(kind: &str, name: &str, error: AmqpError) -> AmqpError {
    const PRECONDITION_FAILED: u16 = 406;
    match error {
        AmqpError::Broker { source, .. } if matches!(source.kind(), lapin::ErrorKind::ProtocolError(e) if e.get_id() == PRECONDITION_FAILED) => {
            AmqpError::Differs { what: format!("{kind} {name}"), source }
        }
        error => error,
    }
}

/// Compares the broker with the table and creates nothing: what is missing, and what is there with other settings.
///
/// # Errors
/// When the connection is gone or the broker doesn't answer.
pub async fn check(link: &BrokerConnection) -> Result<Vec<TopologyProblem>, AmqpError> {
    let mut problems = Vec::new();
    for exchange in EXCHANGES {
        // A passive declaration looks for the name only, an active one compares; each refusal closes its channel.
        for passive in [true, false] {
            let outcome = declare_exchange(&link.channel().await?, exchange, passive).await;
            if let Some(reason) = refusal(outcome)? {
                problems.push(TopologyProblem { what: format!("exchange {}", exchange.name), reason });
                break;
            }
        }
    }
    for queue in QUEUES {
        for passive in [true, false] {
            let outcome = declare_queue(&link.channel().await?, queue, passive).await;
            if let Some(reason) = refusal(outcome)? {
                problems.push(TopologyProblem { what: format!("queue {}", queue.name), reason });
                break;
            }
        }
    }
    Ok(problems)
}

/// A queue as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    /// The queue's name, as the broker and operators know it.
    pub name: &'static str,
    /// Messages that wait to be delivered; those under way don't count.
    pub messages: u32,
    /// Who consumes it.
    pub consumers: u32,
}

/// How full the queues of the table are; without those that don't exist.
///
/// # Errors
/// When the connection is gone or the broker doesn't answer.
pub async fn queues(link: &BrokerConnection) -> Result<Vec<QueueState>, AmqpError> {
    let mut states = Vec::new();
    for declared in QUEUES {
        states.extend(queue(link, declared.name).await?);
    }
    Ok(states)
}

/// How full the queue `name` is; `None` when it doesn't exist.
///
/// # Errors
/// When the connection is gone or the broker doesn't answer.
pub async fn queue(link: &BrokerConnection, name: &'static str) -> Result<Option<QueueState>, AmqpError> {
    match look_for_queue(link, name).await {
        Ok(state) => Ok(Some(QueueState { name, messages: state.message_count(), consumers: state.consumer_count() })),
        Err(error) => refusal(Err(error)).map(|_| None),
    }
}

/// Whether there is a queue `name`, whoever may see it.
///
/// # Errors
/// When the connection is gone or the broker doesn't answer.
pub async fn queue_exists(link: &BrokerConnection, name: &str) -> Result<bool, AmqpError> {
    match look_for_queue(link, name).await {
        Ok(_) => Ok(true),
        Err(AmqpError::Broker { source, .. }) if is_not_found(&source) => Ok(false),
        // It's another connection's own: there it is.
        Err(error) => refusal(Err(error)).map(|_| true),
    }
}

async fn look_for_queue(link: &BrokerConnection, name: &str) -> Result<lapin::Queue, AmqpError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = link.channel().await?;
    answer("a queue", channel.queue_declare(name.into(), options, FieldTable::default())).await
}

fn is_not_found(error: &lapin::Error) -> bool {
    let not_found = AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND);
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if *error.kind() == not_found)
}

/// The broker's refusal of a declaration, as opposed to a broken connection.
fn refusal(outcome: Result<(), AmqpError>) -> Result<Option<String>, AmqpError> {
    match outcome {
        Ok(()) => Ok(None),
        Err(AmqpError::Broker { what, source }) => match source.kind() {
            lapin::ErrorKind::ProtocolError(error) => Ok(Some(error.to_string())),
            _ => Err(AmqpError::Broker { what, source }),
        },
        Err(error) => Err(error),
    }
}

async fn declare_exchange(channel: &Channel, exchange: &Exchange, passive: bool) -> Result<(), AmqpError> {
    let kind = match exchange.kind {
        "topic" => ExchangeKind::Topic,
        "fanout" => ExchangeKind::Fanout,
        "direct" => ExchangeKind::Direct,
        other => ExchangeKind::Custom(other.to_owned()),
    };
    let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    if let Some(alternate) = exchange.alternate {
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
    }
    answer("an exchange", channel.exchange_declare(exchange.name.into(), kind, options, arguments)).await
}

async fn declare_queue(channel: &Channel, queue: &Queue, passive: bool) -> Result<(), AmqpError> {
    let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    for (name, value) in queue.arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString((*text).into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
        };
        arguments.insert((*name).into(), value);
    }
    answer("a queue", channel.queue_declare(queue.name.into(), options, arguments)).await.map(drop)
}
