//! Somebody who hears all events of an exchange, and notes when. Bodies are read only by who asks.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use slipway_protocol::topology;
use tokio::sync::mpsc;

/// How long no message may come until a run counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A message that was heard.
pub struct HeardMessage {
    /// When, for spans.
    pub at: Instant,
    /// When, to compare with what others say.
    pub clock: SystemTime,
    /// Its routing key.
    pub key: String,
    /// The message.
    pub body: Vec<u8>,
}

/// A queue of its own on an exchange.
pub struct Subscriber {
    heard: mpsc::UnboundedReceiver<HeardMessage>,
    connection: Connection,
}

/// What came until so many results were there.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// When the first result came.
    pub begin: Instant,
    /// When the last result came.
    pub end: Instant,
    /// How many messages there were.
    pub messages: usize,
}

impl Subscriber {
    /// Hears everything that is published to `exchange` from now on. Slipway's is there; others are made.
    pub async fn bind(url: &str, exchange: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        if exchange != topology::EVENTS {
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        }
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await?.name().clone();
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.clone(), exchange.into(), "#".into(), bind, FieldTable::default()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let _channel = channel;
            while let Some(Ok(delivery)) = consumer.next().await {
                let (at, clock) = (Instant::now(), SystemTime::now());
                let message = HeardMessage { at, clock, key: delivery.routing_key.to_string(), body: delivery.data };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Ok(Self { heard, connection })
    }

    /// The next message.
    pub async fn next(&mut self, patience: Duration) -> Result<HeardMessage> {
        let next = tokio::time::timeout(patience, self.heard.recv()).await;
        next.with_context(|| format!("nothing was told for {patience:?}"))?.context("the subscriber's connection ended")
    }

    /// Waits for `count` results.
    pub async fn results(&mut self, count: usize, patience: Duration) -> Result<Span> {
        let (mut messages, mut results, mut begin) = (0, 0, None);
        loop {
            let message = match self.next(patience).await {
                Ok(message) => message,
                Err(error) => bail!("{error:#}, after {results} of {count} results and {messages} messages"),
            };
            messages += 1;
            if message.key.starts_with("result") {
                results += 1;
                let begin = *begin.get_or_insert(message.at);
                if results == count {
                    return Ok(Span { begin, end: message.at, messages });
                }
            }
        }
    }

    /// Ends it; its queue goes.
    pub async fn end(self) {
        let _ = self.connection.close(200, "done".into()).await;
    }
}
