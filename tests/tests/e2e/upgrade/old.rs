//! The fixture of version 0.1 in a fresh database and on a fresh broker.

use anyhow::{Context as _, Result, ensure};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;
use slipway_tests::bus::ReceivedMessage;
use slipway_tests::checker::ObservedEvent;

const DATABASE: &str = include_str!("../../../fixtures/v0.1/database.sql");
const TOPOLOGY: &str = include_str!("../../../fixtures/v0.1/topology.json");
const DEPLOYMENTS: &str = include_str!("../../../fixtures/v0.1/deployments.json");
const DEAD_LETTERS: &str = include_str!("../../../fixtures/v0.1/dead-letters.json");
const REQUESTS: &str = include_str!("../../../fixtures/v0.1/requests.json");
const EVENTS: &str = include_str!("../../../fixtures/v0.1/events.json");

/// Loads the dump, as if it had been made just now: what is to be done yet isn't too old for it, and leases are over.
pub async fn database(sql: &tokio_postgres::Client) -> Result<()> {
    sql.batch_execute(DATABASE).await.context("loading the dump")?;
    sql.batch_execute(
        "RESET ALL;
         UPDATE project_leases SET expires_at = least(expires_at, now());
         UPDATE relay_lease SET expires_at = least(expires_at, now());
         UPDATE deployments SET run_at = least(run_at, now());
         UPDATE deployments SET accepted_at = now(), started_at = CASE WHEN started_at IS NOT NULL THEN now() END
             WHERE finished_at IS NULL",
    )
    .await
    .context("its clock")
}

/// Declares what the old version declared, and fills its queues.
pub async fn broker(url: &str) -> Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    declare(&channel).await?;
    for messages in [DEPLOYMENTS, DEAD_LETTERS] {
        for message in list(messages)? {
            publish(&channel, &message, messages == DEAD_LETTERS).await?;
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn declare(channel: &Channel) -> Result<()> {
    let topology: Value = serde_json::from_str(TOPOLOGY)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for exchange in topology["exchanges"].as_array().context("exchanges")? {
        let mut arguments = FieldTable::default();
        if let Some(alternate) = exchange["alternate"].as_str() {
            arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
        }
        let kind = match exchange["kind"].as_str() {
            Some("topic") => ExchangeKind::Topic,
            Some("fanout") => ExchangeKind::Fanout,
            other => anyhow::bail!("no kind of exchange: {other:?}"),
        };
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(text(&exchange["name"]).into(), kind, durable, arguments).await?;
    }
    for queue in topology["queues"].as_array().context("queues")? {
        let mut arguments = FieldTable::default();
        for (name, value) in queue["arguments"].as_object().context("arguments")? {
            let value = match value.as_i64() {
                Some(number) => AMQPValue::LongLongInt(number),
                None => AMQPValue::LongString(text(value).into()),
            };
            arguments.insert(name.as_str().into(), value);
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(text(&queue["name"]).into(), durable, arguments).await?;
    }
    for binding in topology["bindings"].as_array().context("bindings")? {
        let (queue, exchange, pattern) =
            (text(&binding["queue"]), text(&binding["exchange"]), text(&binding["pattern"]));
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.into(), exchange.into(), pattern.into(), options, FieldTable::default()).await?;
    }
    Ok(())
}

async fn publish(channel: &Channel, message: &Value, dead: bool) -> Result<()> {
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    let exchange = if dead { "slipway.dead-letters" } else { text("exchange") };
    let mut headers = FieldTable::default();
    for (name, value) in message["headers"].as_object().context("headers")? {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().unwrap_or_default().into()));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type(text("content_type").into())
        .with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let body = text("body").as_bytes();
    let sent = channel.basic_publish(exchange.into(), text("routing_key").into(), options, body, properties).await?;
    let confirmed = sent.await?;
    ensure!(matches!(confirmed, Confirmation::Ack(None)), "not published: {confirmed:?}");
    Ok(())
}

/// Everything that was asked for.
pub fn requests() -> Result<Vec<String>> {
    Ok(serde_json::from_str(REQUESTS)?)
}

/// Everything that was told.
pub fn events() -> Result<Vec<ObservedEvent>> {
    let body = |event: &Value| ReceivedMessage { body: event.to_string().into_bytes(), ..ReceivedMessage::default() };
    list(EVENTS)?.iter().map(|event| ObservedEvent::read(&body(event))).collect()
}

fn list(text: &str) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(text)?)
}
