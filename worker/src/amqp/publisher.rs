//! Publishes with confirms: each message is mandatory and persistent, and has a time-out that stands still while the
//! broker is in alarm. A message counts as published only when the broker acknowledged it and didn't return it. lapin
//! reports a returned message as acknowledged, too, and attaches it to whichever confirm comes next. So a channel has
//! one message under way; more messages at a time need more channels. Which message is sent when is decided in
//! `publish`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::answer::{answer, answer_when_unblocked};
use super::{AmqpError, BrokerConnection, ConnectionState, frame};
use crate::message::Outgoing;

/// Property `app-id` of everything that is published.
const APP: &str = "slipway";

/// Why a message isn't published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No queue is bound for it.
    #[error("the broker returned the message: {text} ({code})")]
    Returned {
        /// AMQP's reply code; 312 is "no route".
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// The broker couldn't store it: a full queue, or a leader that is just elected.
    #[error("the broker refused to store the message")]
    Nacked,
    /// It was never sent, since it would break the connection.
    #[error("it can't be sent: {0}")]
    Unfit(String),
    /// Whether it arrived isn't known; publish again on a new channel.
    #[error(transparent)]
    Broken(#[from] AmqpError),
}

/// Publishes on a channel of its own, one message after the other.
pub struct Publisher {
    channel: Channel,
    turn: Arc<Semaphore>,
    state: watch::Receiver<ConnectionState>,
    refused: Arc<AtomicBool>,
    /// What became of a message isn't known: its confirm may come yet, and would be taken for another's.
    broken: Arc<AtomicBool>,
    frame_max: usize,
}

/// A message that was sent and not yet confirmed; until then its channel takes no other.
pub struct PendingConfirm {
    confirm: PublisherConfirm,
    state: watch::Receiver<ConnectionState>,
    refused: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    _turn: OwnedSemaphorePermit,
}

impl Publisher {
    /// Opens a channel for publishing.
    ///
    /// # Errors
    /// When the broker refuses, is gone or doesn't answer.
    pub async fn open(link: &BrokerConnection) -> Result<Self, AmqpError> {
        let channel = link.channel().await?;
        answer("confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let (turn, frame_max) = (Arc::new(Semaphore::new(1)), link.frame_max());
        Ok(Self { channel, turn, state: link.states(), refused: Arc::default(), broken: Arc::default(), frame_max })
    }

    /// Takes another channel if the broker has refused a message on this one. RabbitMQ's channel looks for a quorum
    /// queue's leader when it first publishes to that queue; where it finds a node that has just died, it refuses
    /// everything for the queue from then on, however soon there is another leader (seen with 3.10).
    ///
    /// # Errors
    /// As [`Publisher::open`].
    pub async fn renew(&mut self, link: &BrokerConnection) -> Result<(), AmqpError> {
        if self.refused.load(Ordering::Relaxed) && link.state() == ConnectionState::Up {
            let refused = std::mem::replace(self, Self::open(link).await?);
            // It would last as long as its connection.
            let _ = answer("a channel's end", refused.channel.close(200, "refused".into())).await;
        }
        Ok(())
    }

    /// Sends a message when the broker has answered the last one; [`PendingConfirm::wait`] shows whether it's published.
    ///
    /// # Errors
    /// [`PublishError::Unfit`], and nothing was sent; or when the connection is gone: the channel can't be used any more
    /// then.
    pub async fn send(&self, message: &Outgoing) -> Result<PendingConfirm, PublishError> {
        frame::check(message, self.frame_max).map_err(PublishError::Unfit)?;
        let closed = |_| AmqpError::Down("its publisher is gone".to_owned());
        let turn = self.turn.clone().acquire_owned().await.map_err(closed)?;
        if self.broken.load(Ordering::Acquire) {
            return Err(AmqpError::Down("its channel waits for the confirm of another message".to_owned()).into());
        }
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let sent = self.channel.basic_publish(
            message.exchange.as_str().into(),
            message.routing_key.as_str().into(),
            options,
            &message.body,
            properties(message),
        );
        let confirm = answer_when_unblocked(self.state.clone(), "a message", sent).await;
        let confirm = confirm.inspect_err(|_| self.broken.store(true, Ordering::Release))?;
        let (state, refused, broken) = (self.state.clone(), self.refused.clone(), self.broken.clone());
        Ok(PendingConfirm { confirm, state, refused, broken, _turn: turn })
    }

    /// Sends a message and waits until it's published.
    ///
    /// # Errors
    /// As [`PendingConfirm::wait`].
    pub async fn publish(&self, message: &Outgoing) -> Result<(), PublishError> {
        self.send(message).await?.wait().await
    }
}

impl PendingConfirm {
    /// Waits for the broker's confirm.
    ///
    /// # Errors
    /// A [`PublishError`]; after [`PublishError::Broken`] the channel can't be used any more.
    pub async fn wait(self) -> Result<(), PublishError> {
        let answer = answer_when_unblocked(self.state, "a confirm", self.confirm).await;
        match answer.inspect_err(|_| self.broken.store(true, Ordering::Release))? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                Err(PublishError::Returned { code: returned.reply_code, text: returned.reply_text.to_string() })
            }
            // Without confirms nothing is known, and that must not count as success.
            Confirmation::Nack(None) | Confirmation::NotRequested => {
                self.refused.store(true, Ordering::Relaxed);
                Err(PublishError::Nacked)
            }
        }
    }
}

fn properties(message: &Outgoing) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_app_id(APP.into())
        .with_timestamp(u64::try_from(Timestamp::now().as_second()).unwrap_or(0))
        .with_message_id(message.message_id.as_str().into())
        .with_headers(headers);
    if !message.event_type.is_empty() {
        properties = properties.with_type(message.event_type.as_str().into());
    }
    if let Some(id) = &message.correlation_id {
        properties = properties.with_correlation_id(id.as_str().into());
    }
    if let Some(content_type) = &message.content_type {
        properties = properties.with_content_type(content_type.as_str().into());
    }
    properties
}
