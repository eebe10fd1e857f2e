//! RabbitMQ as somebody outside of Slipway has it: any bytes in, events and dead letters out. It shares no code with
//! the workers, so that neither's mistake hides the other's.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use slipway_protocol::{CONTENT_TYPE, EventType, topology};

/// A message with what AMQP says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// The bytes.
    pub body: Vec<u8>,
    /// Property `content-type`.
    pub content_type: Option<String>,
    /// Property `type`.
    pub event_type: Option<String>,
    /// Property `message-id`.
    pub message_id: Option<String>,
    /// Property `correlation-id`.
    pub correlation_id: Option<String>,
    /// Property `expiration`, in milliseconds.
    pub expiration: Option<String>,
    /// Whether property `delivery-mode` is persistent.
    pub persistent: bool,
    /// Headers that are text.
    pub headers: BTreeMap<String, String>,
    /// Routing key; set on messages that came.
    pub routing_key: String,
}

impl ReceivedMessage {
    /// A structured CloudEvent of `body`, whatever that is.
    #[must_use]
    pub fn structured(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), content_type: Some(CONTENT_TYPE.to_owned()), ..Self::default() }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it isn't.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the body isn't JSON")
    }

    fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, value) in &self.headers {
            headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
        }
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        let properties = match &self.content_type {
            Some(content_type) => properties.with_content_type(content_type.as_str().into()),
            None => properties,
        };
        match &self.expiration {
            Some(expiration) => properties.with_expiration(expiration.as_str().into()),
            None => properties,
        }
    }

    pub(crate) fn of(delivery: Delivery) -> Self {
        let properties = delivery.properties;
        let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        let headers = properties.headers().iter().flat_map(|table| table.inner()).filter_map(|(name, value)| {
            let AMQPValue::LongString(value) = value else { return None };
            Some((name.to_string(), value.to_string()))
        });
        Self {
            content_type: text(properties.content_type()),
            event_type: text(properties.kind()),
            message_id: text(properties.message_id()),
            correlation_id: text(properties.correlation_id()),
            expiration: text(properties.expiration()),
            persistent: *properties.delivery_mode() == Some(2),
            headers: headers.collect(),
            routing_key: delivery.routing_key.to_string(),
            body: delivery.data,
        }
    }
}

/// A connection that publishes requests, follows all events and takes the dead letters.
pub struct EventBus {
    channel: Channel,
    events: Consumer,
    dead_letters: Option<Consumer>,
    _connection: Connection,
}

impl EventBus {
    /// Connects; events from now on are kept for [`EventBus::event`].
    ///
    /// # Errors
    /// When the broker can't be reached or the topology isn't declared.
    pub async fn connect(url: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await?.name().clone();
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.clone(), topology::EVENTS.into(), "#".into(), bind, FieldTable::default()).await?;
        let events = consume(&channel, queue.as_str()).await?;
        Ok(Self { channel, events, dead_letters: None, _connection: connection })
    }

    /// Publishes all of `messages` as requests, one after the other without waiting, and then waits for the confirms.
    ///
    /// # Errors
    /// When one is returned or not confirmed.
    pub async fn publish(&self, messages: &[&ReceivedMessage]) -> Result<()> {
        publish(&self.channel, messages).await
    }

    /// The next event.
    ///
    /// # Errors
    /// When none comes within `patience`.
    pub async fn event(&mut self, patience: Duration) -> Result<ReceivedMessage> {
        next("an event", &mut self.events, patience).await
    }

    /// The next dead letter; the first call begins to take them off the queue.
    ///
    /// # Errors
    /// When none comes within `patience`.
    pub async fn dead_letter(&mut self, patience: Duration) -> Result<ReceivedMessage> {
        let consumer = match self.dead_letters.take() {
            Some(consumer) => consumer,
            None => consume(&self.channel, topology::DEAD_LETTERS_QUEUE).await?,
        };
        next("a dead letter", self.dead_letters.insert(consumer), patience).await
    }

    /// How many dead letters are in the queue.
    ///
    /// # Errors
    /// When the broker doesn't tell.
    pub async fn dead_letters(&self) -> Result<u32> {
        self.waiting(topology::DEAD_LETTERS_QUEUE).await
    }

    /// How many messages wait in `queue`.
    ///
    /// # Errors
    /// When there is no such queue, or the broker doesn't tell.
    pub async fn waiting(&self, queue: &str) -> Result<u32> {
        let passive = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        Ok(self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.message_count())
    }
}

/// As [`EventBus::publish`], on a channel that confirms.
///
/// # Errors
/// As [`EventBus::publish`].
pub async fn publish(channel: &Channel, messages: &[&ReceivedMessage]) -> Result<()> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let key = EventType::ProjectReady.as_str();
    let mut sent = Vec::new();
    for message in messages {
        let publish =
            channel.basic_publish(topology::REQUESTS.into(), key.into(), options, &message.body, message.properties());
        sent.push(publish.await?);
    }
    for confirm in sent {
        let confirmed = confirm.await?;
        ensure!(matches!(confirmed, Confirmation::Ack(None)), "not published: {confirmed:?}");
    }
    Ok(())
}

async fn consume(channel: &Channel, queue: &str) -> Result<Consumer> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

async fn next(what: &str, consumer: &mut Consumer, patience: Duration) -> Result<ReceivedMessage> {
    let next = tokio::time::timeout(patience, consumer.next()).await;
    let delivery = next.with_context(|| format!("{what}: none within {patience:?}"))?;
    Ok(ReceivedMessage::of(delivery.with_context(|| format!("{what}: the consumer ended"))??))
}
