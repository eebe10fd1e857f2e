//! Somebody outside who forgets nothing: asks for deployments, and keeps every event in a durable queue of its own, so
//! that whatever happens to broker and connections meanwhile, the whole story is there to be read at the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lapin::options::{BasicGetOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use slipway_protocol::{DeploymentId, topology};

use crate::bus::{self, ReceivedMessage};
use crate::checker::{ObservedEvent, RunHistory, SentRequest};

/// The observer's queue.
const QUEUE: &str = "observer";

/// How long a node is waited for in the first round; a frozen one never answers, a busy one late.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long all of them together are.
const OVERALL: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// A connection of the observer; its queue outlives it.
pub struct Observer {
    channel: Channel,
    _connection: Connection,
}

impl Observer {
    /// Connects to the first node that answers, going round until one does, and binds the queue that keeps all events
    /// from now on. The topology must be there.
    ///
    /// # Errors
    /// When no node can be reached or one refuses, for a minute.
    pub async fn connect(urls: &str) -> Result<Self> {
        let (begun, mut patience) = (Instant::now(), PATIENCE);
        loop {
            for url in urls.split(',') {
                let opened = tokio::time::timeout(patience, Self::open(url)).await;
                let error = match opened {
                    Ok(Ok(observer)) => return Ok(observer),
                    Ok(Err(error)) => error,
                    Err(late) => late.into(),
                };
                if begun.elapsed() > OVERALL {
                    return Err(error.context("the observer can't connect"));
                }
            }
            tokio::time::sleep(PAUSE).await;
            patience = OVERALL.min(patience * 2);
        }
    }

    async fn open(url: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(QUEUE.into(), durable(), arguments).await?;
        let bind = QueueBindOptions::default();
        channel.queue_bind(QUEUE.into(), topology::EVENTS.into(), "#".into(), bind, FieldTable::default()).await?;
        Ok(Self { channel, _connection: connection })
    }

    /// Publishes a structured event and waits for the broker's confirm.
    ///
    /// # Errors
    /// When it's returned, not confirmed, or the connection is gone: then nothing is known.
    pub async fn publish(&self, body: &[u8]) -> Result<()> {
        bus::publish(&self.channel, &[&ReceivedMessage::structured(body)]).await
    }

    /// The same with a message that expires at once, unless somebody consumes it at this very moment.
    ///
    /// # Errors
    /// As [`Observer::publish`].
    pub async fn publish_expiring(&self, body: &[u8]) -> Result<()> {
        let message = ReceivedMessage { expiration: Some("0".to_owned()), ..ReceivedMessage::structured(body) };
        bus::publish(&self.channel, &[&message]).await
    }

    /// Takes what the observer's queue and the queue of dead letters hold, into the history.
    ///
    /// # Errors
    /// When the broker fails, or an event can't be read.
    pub async fn read(&self, history: &mut RunHistory) -> Result<()> {
        for message in self.take(QUEUE).await? {
            history.events.push(ObservedEvent::read(&message)?);
        }
        let letters = self.take(topology::DEAD_LETTERS_QUEUE).await?;
        history.queued.extend(letters.into_iter().map(|letter| (letter.message_id, letter.body)));
        Ok(())
    }

    /// Takes everything that a queue holds.
    ///
    /// # Errors
    /// When the broker fails.
    pub async fn take(&self, queue: &str) -> Result<Vec<ReceivedMessage>> {
        let mut taken = Vec::new();
        while let Some(got) = self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await? {
            taken.push(ReceivedMessage::of(got.delivery));
        }
        Ok(taken)
    }

    /// How many messages wait in a queue.
    ///
    /// # Errors
    /// When the broker doesn't tell.
    pub async fn waiting(&self, queue: &str) -> Result<u32> {
        let passive = QueueDeclareOptions { passive: true, ..durable() };
        Ok(self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.message_count())
    }
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

/// A message as the checker counts it: for the deployment that its `source` and `id` ask for.
///
/// # Errors
/// When an event has no `source` or `id`.
pub fn request(body: &[u8]) -> Result<SentRequest> {
    let deployment = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(event) => {
            let text = |name: &str| event[name].as_str().with_context(|| format!("an event without {name}"));
            Some(DeploymentId::of(text("source")?, text("id")?, None))
        }
        Err(_) => None,
    };
    Ok(SentRequest { deployment, confirmed: false, body: body.to_vec() })
}
