//! Publishes a request: mandatory and confirmed, so that "published" means that RabbitMQ has stored it in a queue.

use std::collections::BTreeMap;

use serde_json::Value;
use slipway_protocol::{CONTENT_TYPE, CloudEvent, topology};
use slipway_worker::amqp::{PublishError, Publisher};
use slipway_worker::message::Outgoing;
use slipway_worker::store::{Operator, OperatorAction};

use crate::connect::broker::BrokerClient;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};

/// What the record says of a publication.
pub(crate) struct Recorded {
    pub(crate) action: OperatorAction,
    pub(crate) subject: String,
    pub(crate) operator: Operator,
    pub(crate) details: Value,
}

/// Publishes `message`, which is recorded before: what can't be recorded isn't published.
pub(crate) async fn publish(
    message: &Outgoing,
    recorded: Recorded,
    database: &Database,
    settings: &ConnectionSettings,
) -> Result<(), CliError> {
    let Recorded { action, subject, operator, details } = recorded;
    let number = database.store.record_beforehand(action, &subject, &operator, &details).await;
    let number = number.map_err(|e| database.cli_error(&e))?;
    let published = send(message, settings).await;
    if let Err(error) = &published {
        // It stays recorded as asked for where this can't be written.
        let _ = database.store.record_failure(number, &error.message).await;
    }
    published
}

async fn send(message: &Outgoing, settings: &ConnectionSettings) -> Result<(), CliError> {
    let broker = BrokerClient::connect(settings).await?;
    let publisher = Publisher::open(&broker.connection).await.map_err(|e| broker.cli_error(&e))?;
    let done = publisher.publish(message).await;
    broker.connection.close().await;
    done.map_err(|error| match error {
        PublishError::Returned { .. } | PublishError::Nacked => {
            CliError::new(CommandExit::Failed, format!("the request isn't published: {error}"))
                .hint("run `slipway topology check`: no queue takes requests, or it's full")
        }
        PublishError::Unfit(_) => CliError::new(CommandExit::Usage, format!("the request isn't published: {error}"))
            .hint("shorten what the message names"),
        PublishError::Broken(e) if is_missing_exchange(&e) => CliError::new(
            CommandExit::Failed,
            format!("the request isn't published: there is no exchange {}", topology::REQUESTS),
        )
        .hint("run `slipway topology apply`, or start a worker"),
        PublishError::Broken(e) => {
            let error =
                CliError::new(CommandExit::Unavailable, format!("whether the request is published isn't known: {e}"));
            error.hint("submit it again with the same source and id: a duplicate is recognised")
        }
    })
}

fn is_missing_exchange(error: &slipway_worker::amqp::AmqpError) -> bool {
    crate::terminal::error::join_sources(error).to_ascii_uppercase().replace(['-', ' '], "_").contains("NOT_FOUND")
}

/// An event as a message; `correlation_id` is the request's own.
pub(crate) fn build_message<T>(event: &CloudEvent<T>, correlation_id: Option<&str>, body: Vec<u8>) -> Outgoing {
    let mut headers = BTreeMap::new();
    if let Some(traceparent) = &event.traceparent {
        headers.insert("traceparent".to_owned(), traceparent.clone());
    }
    Outgoing {
        exchange: topology::REQUESTS.to_owned(),
        routing_key: event.event_type.clone(),
        // AMQP's short strings end at 255 bytes; an event's id has 200 at most.
        message_id: event.id.clone(),
        event_type: event.event_type.clone(),
        correlation_id: correlation_id.filter(|id| id.len() <= 255).map(str::to_owned),
        content_type: Some(CONTENT_TYPE.to_owned()),
        headers,
        body,
    }
}
