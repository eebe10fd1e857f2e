//! The head of a queue, one message after the other: each is taken off for good or goes to the queue's end. Nothing is given
//! back, since that counts towards the limit at which a newer RabbitMQ drops a message.

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};

use super::answer::answer;
use super::subscription::convert_delivery;
use super::{AmqpError, BrokerConnection, Delivered};

/// Looks at the head of a queue, on a channel of its own.
pub struct QueueHead {
    channel: Channel,
    queue: &'static str,
}

/// The message at the head; unless one of its methods is called, it comes back when the connection ends.
pub struct HeadMessage<'a> {
    /// As it was delivered.
    pub delivered: Delivered,
    head: &'a QueueHead,
    properties: BasicProperties,
}

impl QueueHead {
    /// Opens a channel for it.
    ///
    /// # Errors
    /// When the broker refuses, is gone or doesn't answer.
    pub async fn open(link: &BrokerConnection, queue: &'static str) -> Result<Self, AmqpError> {
        let channel = link.channel().await?;
        answer("confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { channel, queue })
    }

    /// The message at the head; `None` when the queue is empty.
    ///
    /// # Errors
    /// When the broker refuses (there is no such queue), is gone or doesn't answer.
    pub async fn next(&self) -> Result<Option<HeadMessage<'_>>, AmqpError> {
        let got = answer("a message", self.channel.basic_get(self.queue.into(), BasicGetOptions::default())).await?;
        Ok(got.map(|message| {
            let properties = message.delivery.properties.clone();
            HeadMessage { delivered: convert_delivery(message.delivery), head: self, properties }
        }))
    }
}

impl HeadMessage<'_> {
    /// Takes it off the queue.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn take_off(&self) -> Result<(), AmqpError> {
        self.delivered.ack().await.map(drop)
    }

    /// Puts it to the end of the queue, as it is; false when the broker didn't take it there, and it stays.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn move_to_end(&self) -> Result<bool, AmqpError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (body, properties) = (&self.delivered.incoming.body, self.properties.clone());
        let publish = self.head.channel.basic_publish("".into(), self.head.queue.into(), options, body, properties);
        let confirm = answer("a publication", publish).await?;
        if !matches!(answer("a confirm", confirm).await?, Confirmation::Ack(None)) {
            return Ok(false);
        }
        self.take_off().await?;
        Ok(true)
    }
}
